"""How much accuracy is left of real models when weights become zero, by what chooses them.

``python -m benchmarks.weight_pruning`` prunes the weights of all nodes, calibrates on 64 samples
where the criterion needs data, and compares top-1 on held-out samples. Nothing is trained or
refitted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.page import add_subjects, page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from benchmarks.weight_rounding import scores
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.masking.ranking import Scope
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import PruneWeights
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECTS: Mapping[str, int] = {"resnet20": 2000, "minilm": 400}
"""Held-out samples used of each subject."""

CALIBRATION_SAMPLES = 64
SPARSITIES = (0.5, 0.7, 0.8, 0.9)
PATTERN = "2:4"


def choices(sparsity: float) -> Mapping[str, PruneWeights]:
    """What is compared, by the name of its row; l1 and l2 rank the weights of a node alike."""
    rows = {
        f"{criterion.value}, {scope.value}": PruneWeights(
            criterion=criterion, scope=scope, sparsity=sparsity
        )
        for criterion in (Criterion.RANDOM, Criterion.L2, Criterion.WANDA, Criterion.SECOND_ORDER)
        for scope in (Scope.NODE, Scope.OUTPUT, Scope.GLOBAL)
        if criterion is not Criterion.RANDOM or scope is Scope.NODE
    }
    plain = PruneWeights(scope=Scope.GLOBAL, sparsity=sparsity, layer_adaptive=False)
    return {**rows, "l2, global, layer_adaptive = false": plain}


def patterns() -> Mapping[str, PruneWeights]:
    """Half of the weights in a pattern, by the name of the row."""
    return {
        f"{criterion.value}, {PATTERN}": PruneWeights(criterion=criterion, n_m=PATTERN)
        for criterion in (Criterion.RANDOM, Criterion.L2, Criterion.WANDA, Criterion.SECOND_ORDER)
    }


class Trial:
    """A cleaned-up model with its data: what is left of its accuracy when it is pruned."""

    def __init__(self, subject: Path, samples: int):
        path = subject / "model.onnx"
        inputs = Session(path).inputs
        calibration = load_dataset(str(subject / "calibration.npz"), inputs)
        self.test = load_dataset(str(subject / "test.npz"), inputs).take(range(samples))
        labels = np.concatenate([batch.labels for batch in self.test.batches(8)])
        self.commonest = 100 * float(np.bincount(labels).max() / len(labels))
        self.context = RuntimeContext(calibration.take(range(CALIBRATION_SAMPLES)))
        self.model = io.load(path)
        PassManager(CLEAN_UP).run(self.model, self.context)

    def top1(self, model: Model) -> float:
        """In percent."""
        found, labels = scores(model, self.test)
        return 100 * float((found.argmax(1) == labels).mean())

    def pruned(self, choice: PruneWeights) -> float:
        """Top-1 in percent when weights are pruned like this."""
        model = clone(self.model)
        PassManager([choice]).run(model, self.context)
        return self.top1(model)


def rows(subject: Path, samples: int) -> Iterator[str]:
    """The lines of one subject's table."""
    trial = Trial(subject, samples)
    rest = " |" * (len(SPARSITIES) - 1)
    yield f"| nothing pruned | {trial.top1(trial.model):.1f} |{rest}"
    yield f"| always the commonest class | {trial.commonest:.1f} |{rest}"
    for name in choices(0):
        found = [trial.pruned(choices(sparsity)[name]) for sparsity in SPARSITIES]
        yield f"| {name} | " + " | ".join(f"{top1:.1f}" for top1 in found) + " |"
    for name, choice in patterns().items():
        yield f"| {name} | {trial.pruned(choice):.1f} |{rest}"


def markdown(cache: Path, names: Sequence[str], command: str) -> str:
    """All subjects as a page."""
    lines = ["# Zeroing weights", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        "Top-1 in percent by the share of weights that are zero. A row names the criterion and "
        "what loses that share together: each node, each output of a node, or the model, where "
        "importances are compared relative to those of the same node unless the row says not. "
        f"{CALIBRATION_SAMPLES} calibration samples; no training, no refitting.",
        "",
    ]
    for name in names:
        shares = " | ".join(f"{sparsity:.0%}" for sparsity in SPARSITIES)
        lines += [
            f"| {name}, {SUBJECTS[name]} samples | {shares} |",
            "|---|" + "---:|" * len(SPARSITIES),
        ]
        for row in rows(find_subject(cache, name), SUBJECTS[name]):
            print(row, file=sys.stderr, flush=True)
            lines.append(row)
        lines += [""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("weight_pruning", __doc__)
    add_subjects(parser, SUBJECTS)
    options = parser.parse_args(arguments)
    command = command_line("weight_pruning", arguments)
    return write_page(options.output, lambda: markdown(options.cache, options.subjects, command))


if __name__ == "__main__":
    sys.exit(main())
