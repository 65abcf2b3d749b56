"""What mixed precision is worth beside one precision for all nodes, on real models.

``python -m benchmarks.mixed_precision`` measures sensitivity on a part of the calibration data,
gives weights 8, 4 or 2 bits under several size budgets, runs the recipes, and compares accuracy and
signal-to-noise ratio on held-out data, at the sizes that the files really have.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.page import page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.measure.metrics import METRICS
from onnxcompress.measure.size import file_bytes
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import SensitivityReport
from onnxcompress.runtime.session import Session
from onnxcompress.sensitivity.analysis import analyze_sensitivity
from onnxcompress.sensitivity.assignment import Assignment, assign, clean_up
from onnxcompress.sensitivity.precision import weight_precisions

SUBJECTS: Mapping[str, int] = {"efficientnet-lite0": 400, "minilm": 400, "resnet20": 2000}
"""Held-out samples used of each subject."""

BITS = (8, 4, 2)
BETWEEN = (0.25, 0.5)
"""Sizes tried beyond that of 4 bits everywhere, as parts of the way to 8 bits everywhere."""

SHUFFLES = 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model: how it was made, how large it is, and how it did on held-out data."""

    name: str
    bytes: int
    sqnr: float
    top1: float
    expected: float | None = None


def shuffled(report: SensitivityReport, seed: int) -> SensitivityReport:
    """The report with the noise of each unit given to another: a placebo.

    What is assigned from it mixes precisions at the same size, without knowing where.
    """
    order = np.random.default_rng(seed).permutation(len(report.units))
    units = []
    for unit, other in zip(report.units, order, strict=True):
        theirs = report.units[other].damage
        mine = (
            replace(own, noise=given.noise) for own, given in zip(unit.damage, theirs, strict=True)
        )
        units.append(replace(unit, damage=tuple(mine)))
    return replace(report, units=tuple(units))


class Judge:
    """Makes the models of one subject and measures them on held-out data."""

    def __init__(self, path: Path, test: Dataset):
        self._path = path
        metrics = (METRICS["sqnr"], METRICS["top1"])
        self._evaluations = [Evaluation(Session(path), test, 8, metric) for metric in metrics]

    def row(self, name: str, recipe: Recipe, expected: float | None = None) -> Row:
        """A recipe's result, measured as a file."""
        model = io.load(self._path)
        PassManager(recipe.passes).run(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            io.save(model, path)
            return self._measured(name, path, expected)

    def original(self) -> Row:
        """The float model's own row."""
        return self._measured("float", self._path, None)

    def _measured(self, name: str, path: Path, expected: float | None) -> Row:
        noise, top1 = (each.score(Session(path)) for each in self._evaluations)
        return Row(
            name=name,
            bytes=file_bytes(path),
            sqnr=noise.value,
            top1=100 * top1.value,
            expected=expected,
        )


def rows(subject: Path, samples: int) -> Iterator[Row]:
    """All models of a subject: float, one precision for all, mixed, and mixed at random."""
    path = subject / "model.onnx"
    test = load_dataset(str(subject / "test.npz"), Session(path).inputs).take(range(samples))
    data = str(subject / "calibration.npz")
    report = analyze_sensitivity(path, weight_precisions(BITS), data=data)
    judge = Judge(path, test)
    yield judge.original()
    before = clean_up(report)
    uniform = {}
    for bits, precision in zip(BITS, report.precisions, strict=True):
        recipe = Recipe((*before, *Recipe.parse(precision.recipe).passes))
        uniform[bits] = judge.row(f"{bits} bits for all", recipe)
        yield uniform[bits]
    small, large = uniform[4].bytes, uniform[8].bytes
    for part in (0.0, *BETWEEN):
        limit = int(small + part * (large - small))
        share = limit / report.file_bytes
        mixed = assign(report, max_bytes=limit)
        name = f"mixed in {share:.1%} ({used(mixed)})"
        yield judge.row(name, mixed.recipe, mixed.sqnr)
        placebos = [
            judge.row("", assign(shuffled(report, seed), max_bytes=limit).recipe)
            for seed in range(SHUFFLES)
        ]
        yield Row(
            name=f"the same, by a shuffled table, mean of {SHUFFLES}",
            bytes=round(float(np.mean([each.bytes for each in placebos]))),
            sqnr=float(np.mean([each.sqnr for each in placebos])),
            top1=float(np.mean([each.top1 for each in placebos])),
        )


def used(assignment: Assignment) -> str:
    """How many nodes have how many bits."""
    counts = Counter(assignment.precisions.values())
    return ", ".join(f"{count} x {name.removeprefix('bits=')}" for name, count in counts.items())


def markdown(cache: Path, subjects: Sequence[str], command: str) -> str:
    """All subjects as a page."""
    lines = ["# Mixed precision", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        "Weights alone are quantized, to the nearest integer: 8 bits with a scale for each output "
        "channel, 4 and 2 bits with one for each block of 32. Sensitivity was measured on 16 "
        "samples of the calibration data. SQNR of the output (dB), which the assignment expected "
        "from the sum of errors, and top-1 (percent) are on held-out samples.",
        "",
    ]
    for name in subjects:
        samples = SUBJECTS[name]
        found = []
        for row in rows(find_subject(cache, name), samples):
            print(row, file=sys.stderr, flush=True)
            found.append(row)
        original = found[0]
        lines += [
            f"| {name}, {samples} samples | bytes | of float | SQNR | expected | top-1 |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in found:
            sqnr = "" if row is original else f"{row.sqnr:.1f}"
            expected = "" if row.expected is None else f"{row.expected:.1f}"
            share = row.bytes / original.bytes
            lines.append(
                f"| {row.name} | {row.bytes:,} | {share:.1%} | {sqnr} | {expected} "
                f"| {row.top1:.2f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("mixed_precision", __doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    options = parser.parse_args(arguments)
    chosen = options.subjects or list(SUBJECTS)
    unknown = set(chosen) - SUBJECTS.keys()
    if unknown:
        parser.error(f"there is no subject {min(unknown)!r}; choose from {', '.join(SUBJECTS)}")
    command = command_line("mixed_precision", arguments)
    return write_page(options.output, lambda: markdown(options.cache, chosen, command))


if __name__ == "__main__":
    sys.exit(main())
