"""How much accuracy a pruned model gets back without training, on real models.

``python -m benchmarks.refitting`` prunes, refits on calibration samples without labels, cuts what
is zero, and compares top-1 on held-out samples. ``--prune`` names other passes to prune with.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.page import page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from benchmarks.weight_rounding import scores
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.measure.macs import cost_by_op
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import RefitWeights, StripPruned
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECTS: Mapping[str, int] = {"resnet20": 5000, "efficientnet-lite0": 400}
"""Held-out samples used of each subject."""

CALIBRATION_SAMPLES = 500
"""At most; a subject may have fewer."""

PRUNINGS = (
    "prune-channels:amount=0.3,target=macs",
    "prune-channels:criterion=second-order,amount=0.3,target=macs",
    "prune-channels:criterion=second-order,scope=global,amount=0.3,target=macs",
    "prune-weights:criterion=l2,sparsity=0.7",
)

REFITS: Mapping[str, RefitWeights] = {
    "refitted": RefitWeights(),
    "without residual": RefitWeights(residual=False),
}
"""What is compared with no refit, by the name of its column."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is left of a model.

    Attributes:
        macs: multiply-accumulates after cutting, as a share of those before.
        pruned: top-1 in percent, without refit.
        refitted: likewise for each of `REFITS`.
        seconds: taken by the first refit.
    """

    macs: float
    pruned: float
    refitted: tuple[float, ...]
    seconds: float

    def cells(self) -> str:
        """As cells of a table."""
        figures = (self.pruned, *self.refitted)
        return " | ".join([f"{self.macs:.0%}", *(f"{each:.1f}" for each in figures)])


class Trial:
    """A cleaned-up model with its data."""

    def __init__(self, subject: Path, samples: int):
        path = subject / "model.onnx"
        inputs = Session(path).inputs
        calibration = load_dataset(str(subject / "calibration.npz"), inputs)
        self.test = load_dataset(str(subject / "test.npz"), inputs).take(range(samples))
        self.samples = min(len(calibration), CALIBRATION_SAMPLES)
        self.context = RuntimeContext(calibration.take(range(self.samples)))
        self.model = io.load(path)
        PassManager(CLEAN_UP).run(self.model, self.context)

    def top1(self, model: Model) -> float:
        """In percent."""
        found, labels = scores(model, self.test)
        return 100 * float((found.argmax(1) == labels).mean())

    def macs(self, model: Model) -> int:
        """Of one sample."""
        return sum(each.macs for each in cost_by_op(model, self.context.types(model)))

    def row(self, prune: Pass) -> Row:
        """Prunes with one pass, then refits in each way."""
        pruned = clone(self.model)
        PassManager([prune]).run(pruned, self.context)
        context = self.context.with_unpruned_model(self.model)
        figures, times = [], []
        for refit in REFITS.values():
            model, start = clone(pruned), time.perf_counter()
            PassManager([refit]).run(model, context)
            times.append(time.perf_counter() - start)
            PassManager([StripPruned()]).run(model, context)
            figures.append(self.top1(model))
        return Row(
            macs=self.macs(model) / self.macs(self.model),
            pruned=self.top1(pruned),
            refitted=tuple(figures),
            seconds=times[0],
        )


def table(subject: Path, samples: int, prunings: Sequence[str]) -> Iterator[str]:
    """The lines of one subject's table."""
    trial = Trial(subject, samples)
    yield f"{subject.name}: {trial.samples} calibration samples, {samples} held-out samples."
    yield ""
    yield " | ".join(["| pruned by", "MACs left", "pruned", *REFITS, "seconds |"])
    yield "|---|" + "---:|" * (3 + len(REFITS))
    exact = f"{trial.top1(trial.model):.1f}"
    yield " | ".join(["| nothing", "100%", exact, *[""] * len(REFITS), " |"])
    for text in prunings:
        row = trial.row(parse_pass(text))
        yield f"| `{text}` | {row.cells()} | {row.seconds:.0f} |"


def markdown(cache: Path, names: Sequence[str], prunings: Sequence[str], command: str) -> str:
    """All subjects as a page."""
    lines = ["# Pruning with and without a refit", "", environment_line(), f"Made by `{command}`."]
    lines += [
        "",
        "Top-1 in percent. `refitted` is `refit-weights` as it stands; `without residual` fits "
        "each node to its own output and not to the sum it writes into. No labels, no training. "
        "Seconds are those of the first refit.",
        "",
    ]
    for name in names:
        for line in table(find_subject(cache, name), SUBJECTS[name], prunings):
            print(line, file=sys.stderr, flush=True)
            lines.append(line)
        lines += [""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("refitting", __doc__)
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="default: all")
    parser.add_argument("--prune", action="append", help="a pass as recipes write it; default: all")
    options = parser.parse_args(arguments)
    command = command_line("refitting", arguments)
    names = options.subjects or [*SUBJECTS]
    prunings = options.prune or PRUNINGS
    return write_page(options.output, lambda: markdown(options.cache, names, prunings, command))


if __name__ == "__main__":
    sys.exit(main())
