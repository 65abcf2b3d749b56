"""Loads and runs files with real releases of onnxruntime, each in an environment of its own.

``python -m benchmarks.runtimes`` installs the wheels that are named, checks `onnxcompress.releases`
on what our passes make of small graphs and on the test models of ONNX itself, and writes a page.
It takes some 10 minutes, most of them to install. Subjects that were fetched are timed in int8 too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks import runtime_probe, runtime_timing
from benchmarks.page import page_parser, write_page
from benchmarks.results import command_line
from benchmarks.runtime_files import FORMS, GRAPHS, Made, drawn, made, samples
from benchmarks.subjects.errors import SubjectError
from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import OnnxCompressError
from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeDynamic, QuantizeStatic
from onnxcompress.releases import Release, oldest_release
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

VERSIONS = (
    *("1.15.1", "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.21.1", "1.22.1", "1.23.2"),
    *("1.24.4", "1.25.1", "1.28.0", "1.31.1", "1.32.0"),
)
"""The last patch of each release that brought something, and of those before them."""

ASKED = (Release(1, 15), Release(1, 16), Release(1, 17), Release(1, 18), Release(1, 22))
"""What `--runtime` is tried with."""

LARGEST_DIFFERENCE = 0.05
"""Relative, between two releases: their kernels round activations to 8 bits or do not."""

_INT8: Mapping[str, Pass] = {
    "resnet20": QuantizeStatic(),
    "minilm": QuantizeDynamic(),
}
_CALIBRATION = 100
_JUDGED = 100

_NEEDS_NUMPY_1 = Release(1, 18)
_LARGEST_TEST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What releases do with a file.

    Attributes:
        first: the first version from which on all load and run it, with the same outputs.
        differences: by version that runs it, the largest difference from the newest, relative.
        refusals: by version that does not, why.
    """

    first: str | None
    differences: Mapping[str, float]
    refusals: Mapping[str, str]

    def agrees(self, told: Release) -> bool:
        """Whether the first version that runs the file is the first that the table says does."""
        versions = sorted({*self.differences, *self.refusals}, key=_number)
        expected = next((each for each in versions if Release.parse(each) >= told), None)
        return self.first == expected


def interpreter(version: str, cache: Path) -> Path:
    """The Python of an environment with that onnxruntime, which is made where it is missing.

    Raises:
        SubjectError: pip cannot install it.
    """
    folder = cache.parent / "runtimes" / version
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, clear=True, with_pip=False)
        numpy = "numpy<2" if Release.parse(version) <= _NEEDS_NUMPY_1 else "numpy"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        done = subprocess.run(
            [*pip, f"onnxruntime=={version}", numpy], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SubjectError(f"onnxruntime {version}: {done.stderr.strip().splitlines()[-1]}")
        ready.touch()
    return python


def probe(files: Path, versions: Sequence[str], cache: Path) -> dict[str, Outcome]:
    """What each version does with the files of a folder, by their names without suffix.

    Raises:
        SubjectError: an environment cannot be made, or a version takes its process with it.
    """
    told: dict[str, Mapping[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="runtimes-") as name:
        results = Path(name)
        for version in versions:
            python, script = interpreter(version, cache), runtime_probe.__file__
            command = [str(python), script, str(files), str(results / version)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SubjectError(f"onnxruntime {version} ended with {done.returncode}")
            told[version] = json.loads((results / version / "told.json").read_text())
        return {
            path.stem: _outcome(path.stem, told, results) for path in sorted(files.glob("*.onnx"))
        }


def _outcome(name: str, told: Mapping[str, Mapping[str, str]], results: Path) -> Outcome:
    newest = list(told)[-1]
    reference = _outputs(results / newest / f"{name}.npz")
    differences, refusals = {}, {}
    for version, reasons in told.items():
        if reasons[name]:
            refusals[version] = reasons[name]
        else:
            values = _outputs(results / version / f"{name}.npz")
            differences[version] = max(
                (_difference(values[each], reference[each]) for each in reference), default=0.0
            )
    first: str | None = None
    for version in reversed([*told]):
        if differences.get(version, np.inf) > LARGEST_DIFFERENCE:
            break
        first = version
    return Outcome(first=first, differences=differences, refusals=refusals)


def _outputs(path: Path) -> Mapping[str, np.ndarray]:
    if not path.exists():  # it was loaded alone, or failed
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def _difference(values: np.ndarray, reference: np.ndarray) -> float:
    scale = float(np.abs(reference).max(initial=0.0)) or 1.0
    gap = np.abs(values.astype(np.float64) - reference).max(initial=0.0)
    return float(np.nan_to_num(gap, nan=np.inf)) / scale


def our_files(versions: Sequence[str], cache: Path) -> list[tuple[Made, Outcome | None]]:
    """All that passes make of the small graphs, with what each version does with it."""
    with tempfile.TemporaryDirectory(prefix="runtimes-") as name:
        folder = Path(name)
        feeds: dict[str, dict[str, Any]] = {
            graph: next(samples(drawn(text)).batches(4)).feeds for graph, text in GRAPHS.items()
        }
        files = list(made(ASKED, lambda each: print(each, flush=True)))
        for number, file in enumerate(files):
            if file.told is not None:
                Path(folder, f"{number}.onnx").write_bytes(file.content)
                np.savez(folder / f"{number}.npz", **feeds[file.graph])
        outcomes = probe(folder, versions, cache)
        return [(file, outcomes.get(str(number))) for number, file in enumerate(files)]


def int8_subjects(versions: Sequence[str], cache: Path) -> list[str]:
    """Lines of a table: speed and accuracy of the subjects that were fetched, in int8."""
    lines = []
    for name, pass_ in _INT8.items():
        source, test = cache / name / "model.onnx", cache / name / "test.npz"
        if not source.exists():
            continue
        cells = []
        with tempfile.TemporaryDirectory(prefix="runtimes-") as folder:
            small = Path(folder, "small.onnx")
            model = io.load(source)
            data = load_dataset(str(cache / name / "calibration.npz"), Session(source).inputs)
            context = RuntimeContext(data.take(range(_CALIBRATION)))
            PassManager((*CLEAN_UP, pass_)).run(model, context)
            io.save(model, small)
            for version in versions:
                python = interpreter(version, cache)
                command = [python, runtime_timing.__file__, source, small, test, _JUDGED]
                done = subprocess.run(
                    list(map(str, command)), capture_output=True, text=True, check=True
                )
                found = json.loads(done.stdout)
                cells.append(f"{found['speedup']:.2f}x, {found['top1'][1]:.1%}")
        lines.append(f"| {name} | {oldest_release(model)} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if not lines:
        return []
    return [
        "## Default int8 files of real models",
        "",
        "Times as fast as the float file in the same release, one sample, one thread, and the",
        f"share of {_JUDGED} samples that are answered rightly.",
        "",
        f"| | told | {' | '.join(versions)} |",
        "|---" * (2 + len(versions)) + "|",
        *lines,
        "",
    ]


def onnx_models(versions: Sequence[str], cache: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    """Test models of ONNX that some version loads: how many, and where the table is not right.

    Returns:
        The others by name: what the table tells, and the first version that loads them.
    """
    from onnx.backend.test.case.node import collect_testcases

    told: dict[str, Release] = {}
    with tempfile.TemporaryDirectory(prefix="runtimes-") as name:
        for case in collect_testcases(None):
            content = b"" if case.model is None else case.model.SerializeToString()
            if not 0 < len(content) <= _LARGEST_TEST:
                continue
            try:
                told[case.name] = oldest_release(import_model(onnx.load_from_string(content)))
            except OnnxCompressError:
                continue
            Path(name, f"{case.name}.onnx").write_bytes(content)
        outcomes = probe(Path(name), versions, cache)
    loaded = {each: outcome for each, outcome in outcomes.items() if outcome.differences}
    wrong = {
        each: (str(told[each]), outcome.first or "none for good")
        for each, outcome in loaded.items()
        if not outcome.agrees(told[each])
    }
    return len(loaded), wrong


def markdown(versions: Sequence[str], cache: Path, command: str) -> tuple[str, bool]:
    """The page, and whether the table held."""
    files = our_files(versions, cache)
    count, wrong = onnx_models(versions, cache)
    late = [(file, found) for file, found in files if found and not _is_safe(file, found)]
    lines = [
        "# Which onnxruntime loads what",
        "",
        f"Made by `{command}` with the wheels of onnxruntime {', '.join(versions)}.",
        "",
        *int8_subjects(versions, cache),
        *_free_table(files),
        *_asked_table(files),
        "## The test models of ONNX",
        "",
        f"Of {count} that some version loads, the table tells the first one for "
        f"{count - len(wrong)}. The others:",
        "",
        "| told | first | models |",
        "|---|---|---|",
    ]
    for (told, first), number in sorted(Counter(wrong.values()).items()):
        names = [each for each, pair in wrong.items() if pair == (told, first)]
        lines.append(f"| {told} | {first} | {number}: {', '.join(names[:3])} |")
    lines += ["", f"Files of ours that need a later release than they say: {len(late)}.", ""]
    return "\n".join(lines), not late


def _is_safe(file: Made, found: Outcome) -> bool:
    """Whether every version from the told one on runs a file, and rightly."""
    assert file.told is not None
    return all(
        found.differences.get(version, np.inf) <= LARGEST_DIFFERENCE
        for version in {*found.differences, *found.refusals}
        if Release.parse(version) >= file.told
    )


def _cell(file: Made, found: Outcome | None) -> str:
    if found is None:
        return "-"
    told = str(file.told)
    if found.agrees(file.told or Release.parse(told)):
        return told
    return f"{told} (first: {found.first})"


def _free_table(files: Sequence[tuple[Made, Outcome | None]]) -> list[str]:
    lines = [
        "## As passes write it",
        "",
        "The oldest release by the table, which is the first to load and run the file with the",
        f"newest's outputs (within {LARGEST_DIFFERENCE:.0%}), unless another is named.",
        "",
        f"| | {' | '.join(GRAPHS)} |",
        "|---" * (1 + len(GRAPHS)) + "|",
    ]
    for form in FORMS:
        cells = {
            file.graph: _cell(file, found)
            for file, found in files
            if file.form == form and file.asked is None
        }
        lines.append(f"| {form} | {' | '.join(cells[graph] for graph in GRAPHS)} |")
    return [*lines, ""]


def _asked_table(files: Sequence[tuple[Made, Outcome | None]]) -> list[str]:
    lines = [
        "## With `--runtime`",
        "",
        "What is too new above, asked for an older release: the oldest that loads and runs it, for",
        "any of the graphs, or that it is refused.",
        "",
        f"| | {' | '.join(map(str, ASKED))} |",
        "|---" * (1 + len(ASKED)) + "|",
    ]
    for form in FORMS:
        cells = []
        for asked in ASKED:
            told = [
                _cell(*each) for each in files if each[0].form == form and each[0].asked == asked
            ]
            cells.append(", ".join(sorted({"refused" if each == "-" else each for each in told})))
        if any(cells):
            lines.append(f"| {form} | {' | '.join(cells)} |")
    return [*lines, ""]


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Installs, measures, prints and writes the page; 1 if a file needs more than it says."""
    parser = page_parser("runtimes", __doc__)
    parser.add_argument("versions", nargs="*", default=list(VERSIONS), help="of onnxruntime")
    options = parser.parse_args(arguments)
    command, held = command_line("runtimes", arguments), []

    def make() -> str:
        page, holds = markdown(sorted(options.versions, key=_number), options.cache, command)
        held.append(holds)
        return page

    return write_page(options.output, make) or int(not held[0])


if __name__ == "__main__":
    sys.exit(main())
