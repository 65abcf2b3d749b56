"""Shows what onnxcompress makes of real models, beside what today's tools make of them.

``python -m benchmarks.compare [SUBJECT ...]`` runs ``onnxcompress.compress`` as a user would, with
default settings, lets each peer of `benchmarks.peers` quantize the same model with the same
calibration data, and measures them all on held-out samples: interleaved, batch 1, one thread.
What fails is listed as failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import onnxcompress
from benchmarks import compare_table
from benchmarks.child import ChildError, Outcome, run_in_child
from benchmarks.compare_table import Comparison, Row
from benchmarks.peers import PEERS, Built, build
from benchmarks.results import RESULTS, command_line, find_subject, megabytes
from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.errors import SubjectError
from benchmarks.subjects.subject import LABELS
from benchmarks.subjects.table import SUBJECTS
from onnxcompress.errors import OnnxCompressError


def compress(model: Path, output: Path, data: Path, metric: str | None) -> str:
    """The user-level job, in a process of its own; returns how it was done."""
    report = onnxcompress.compress(model, output, data=str(data), metric=metric)
    tried = sum(candidate.model is not None for candidate in report.candidates)
    judged = report.data.evaluation_samples
    return (
        f"{report.chosen.name}, the best of {tried} candidates; calibrated on "
        f"{report.data.calibration_samples} samples and judged on {judged} others, "
        "all from the calibration data"
    )


def compare(folder: Path, samples: int | None) -> Comparison:
    """Builds and measures everything for one subject.

    Args:
        folder: model.onnx, calibration.npz and test.npz; its name is the subject's.
        samples: how many of the test samples to measure on at most; None for all.

    Raises:
        ChildError: onnxcompress itself failed.
        OnnxCompressError: the models could not be measured.
    """
    source, calibration = folder / "model.onnx", folder / "calibration.npz"
    metric = SUBJECTS[folder.name].metric.judged_by if folder.name in SUBJECTS else None
    with tempfile.TemporaryDirectory(prefix="compare-") as work:
        ours = Path(work, "ours.onnx")
        done = run_in_child(compress, source, ours, calibration, metric)
        rows = [Row(name="original"), Row(name="onnxcompress", made=done.value + _cost(done))]
        paths = [source, ours]
        for index, peer in enumerate(PEERS):
            if peer.subjects is not None and folder.name not in peer.subjects:
                continue
            output = Path(work, f"peer-{index}.onnx")
            try:
                built = run_in_child(build, index, source, calibration, output)
            except ChildError as fault:
                told = str(fault).replace(work + os.sep, "")  # a folder that is gone by then
                rows.append(Row(name=peer.name, failure=told))
                continue
            rows.append(Row(name=peer.name, made=_made(built) + _cost(built)))
            paths.append(output)
        data = thinned(folder / "test.npz", samples, Path(work))
        report = onnxcompress.benchmark(paths, data=str(data), metric=metric)
    measured = iter(report.models)
    return Comparison(
        subject=folder.name,
        metric=report.metric,
        samples=report.data.evaluation_samples,
        environment=report.environment,
        rows=tuple(
            row if row.failure else replace(row, model=replace(next(measured), name=row.name))
            for row in rows
        ),
    )


def thinned(path: Path, samples: int | None, folder: Path) -> Path:
    """Evenly spaced samples of an .npz file, in a new one; the file itself, if all are wanted."""
    with np.load(path, allow_pickle=False) as arrays:
        count = len(arrays[LABELS])
        if samples is None or samples >= count:
            return path
        rows = np.arange(samples) * count // samples
        thin = folder / path.name
        np.savez(thin, **{name: arrays[name][rows] for name in arrays.files})
    return thin


def _made(built: Outcome[Built]) -> str:
    samples = built.value.samples
    data = f"calibrated on {samples} samples" if samples else "no calibration"
    return f"{data}; {built.value.note}" if built.value.note else data


def _cost(built: Outcome[str] | Outcome[Built]) -> str:
    return f"; took {built.seconds:.0f} s and {megabytes(built.peak_bytes)} of memory"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, prints and writes; 1 if nothing could be compared."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("subjects", metavar="SUBJECT", nargs="*", help="default: all in the cache")
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--samples", type=int, default=1000, help="test samples, 0 for all")
    parser.add_argument("--output", type=Path, default=RESULTS / "compare.md")
    parser.add_argument("--json", type=Path, default=RESULTS / "compare.json")
    options = parser.parse_args(arguments)
    command = command_line("compare", arguments)
    try:
        folders = [find_subject(options.cache, each) for each in options.subjects or SUBJECTS]
        done = []
        for folder in folders:
            done.append(compare(folder, options.samples or None))
            print(compare_table.section(done[-1]), flush=True)
    except (SubjectError, ChildError, OnnxCompressError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    compare_table.write(done, command, options.output, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
