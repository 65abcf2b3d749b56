"""Whether a few samples rank nodes as many do, on real models.

``python -m benchmarks.sensitivity`` measures the damage of quantizing each node alone on 4, on 16
(the default) and on 64 samples, and compares the two short rankings with the long one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.page import page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from onnxcompress.pass_base import Pass
from onnxcompress.passes import QuantizeStatic
from onnxcompress.sensitivity.analysis import SAMPLES, analyze_sensitivity
from onnxcompress.sensitivity.precision import weight_precisions

FEW, MANY = (4, SAMPLES), 64
TOP = 5

CASES: Mapping[str, Sequence[Pass]] = {
    "resnet20": (QuantizeStatic(), *weight_precisions((4,))),
    "efficientnet-lite0": (QuantizeStatic(),),
    "minilm": weight_precisions((4,)),
}
"""What each subject is asked about."""


@dataclass(frozen=True)
class Ranking:
    """SQNR in dB by node, and what it took to measure."""

    decibels: Mapping[str, float]
    seconds: float

    def top(self) -> set[str]:
        """The nodes that harm most."""
        return set(sorted(self.decibels, key=self.decibels.__getitem__)[:TOP])


def rank(subject: Path, pass_: Pass, samples: int) -> Ranking:
    """Measures one pass on so many samples of a subject's calibration data."""
    start = time.perf_counter()
    report = analyze_sensitivity(
        subject / "model.onnx",
        [pass_],
        data=str(subject / "calibration.npz"),
        samples=samples,
        alone_only=True,
    )
    found = {unit.nodes[0]: unit.damage[0].sqnr for unit in report.units}
    seconds = time.perf_counter() - start
    return Ranking({name: value for name, value in found.items() if value is not None}, seconds)


def compared(name: str, few: Ranking, many: Ranking, samples: int) -> str:
    """A row of the table."""
    nodes = list(many.decibels)
    pair = np.array([[each.decibels[node] for node in nodes] for each in (few, many)])
    agreement = float(spearmanr(pair[0], pair[1])[0])
    apart = float(np.median(np.abs(pair[0] - pair[1])))
    return (
        f"| {name} | {len(nodes)} | {samples} | {agreement:.3f} | {len(few.top() & many.top())} "
        f"| {apart:.1f} | {few.seconds:.0f} | {many.seconds:.0f} |"
    )


def markdown(cache: Path, command: str) -> str:
    """All subjects as a page."""
    lines = ["# Sensitivity on few samples", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        f"Rank correlation (Spearman) with the ranking on {MANY} samples, how many of its {TOP} "
        "most sensitive nodes are found, how far SQNR is off (dB, median), and the seconds taken.",
        "",
        f"| | nodes | samples | correlation | top {TOP} | dB off | seconds | seconds for {MANY} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for subject, passes in CASES.items():
        folder = find_subject(cache, subject)
        for pass_ in passes:
            many = rank(folder, pass_, MANY)
            for samples in FEW:
                few = rank(folder, pass_, samples)
                lines.append(compared(f"{subject}, {pass_.name}", few, many, samples))
                print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("sensitivity", __doc__)
    options = parser.parse_args(arguments)
    command = command_line("sensitivity", arguments)
    return write_page(options.output, lambda: markdown(options.cache, command))


if __name__ == "__main__":
    sys.exit(main())
