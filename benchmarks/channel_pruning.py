"""What structured pruning costs and gains, with and without a refit, before and with int8.

``python -m benchmarks.channel_pruning [SUBJECT ...]`` prunes cleaned models by several criteria,
refits on calibration samples without labels, cuts what is zero, and measures all models of a
subject in one run: held-out samples, times interleaved, batch 1, one thread.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxcompress
from benchmarks.child import run_in_child
from benchmarks.compare import thinned
from benchmarks.page import add_subjects, page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject, megabytes
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.measure.macs import cost_by_op
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import parse_pass
from onnxcompress.report.schema import ModelReport
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

CALIBRATION_SAMPLES = 500
"""At most; a subject may have fewer."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is tried on a subject.

    Attributes:
        samples: held-out samples used.
        amount: share of the multiply-accumulates to take away.
        criteria: what channels are chosen by, the last of them with int8 too.
        int8: passes that quantize.
        before: passes that prune something else first, in a row of its own.
    """

    samples: int
    amount: float
    criteria: tuple[str, ...]
    int8: tuple[str, ...]
    before: tuple[str, ...] = ()


PLANS: Mapping[str, Plan] = {
    "resnet20": Plan(
        samples=5000,
        amount=0.3,
        criteria=("random", "l2", "geometric-median", "wanda", "taylor", "second-order"),
        int8=("quantize-static",),
    ),
    "efficientnet-lite0": Plan(
        samples=400,
        amount=0.3,
        criteria=("random", "l2", "taylor", "second-order"),
        int8=("quantize-static",),
    ),
    "minilm": Plan(
        samples=1000,
        amount=0.5,
        criteria=("random", "l2", "taylor", "second-order"),
        int8=("quantize-dynamic", "quantize-weights"),
        before=("prune-vocabulary",),
    ),
}


def recipes(plan: Plan) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The name of each row and its passes."""
    prune = f"prune-channels:target=macs,amount={plan.amount},scope=global,criterion="
    yield "cleaned", ()
    for criterion in plan.criteria:
        yield criterion, (prune + criterion, "strip-pruned")
        yield f"{criterion}, refitted", (prune + criterion, "refit-weights", "strip-pruned")
    best = (*plan.before, f"{prune}{plan.criteria[-1]}", "refit-weights", "strip-pruned")
    if plan.before:
        yield f"{', '.join(plan.before)}, then the same", best
    yield "int8 alone", plan.int8
    yield "pruned and refitted, then int8", (*best, *plan.int8)


def prune(source: Path, calibration: Path, passes: Sequence[str], output: Path) -> int:
    """Runs passes on the cleaned model; returns the multiply-accumulates that are left."""
    data = load_dataset(str(calibration), Session(source).inputs)
    context = RuntimeContext(data.take(range(min(CALIBRATION_SAMPLES, len(data)))))
    model = io.load(source)
    PassManager([*CLEAN_UP, *map(parse_pass, passes)]).run(model, context)
    io.save(model, output)
    return sum(each.macs for each in cost_by_op(model, context.types(model)))


def table(subject: Path, plan: Plan) -> Iterator[str]:
    """The lines of one subject's table."""
    source, calibration = subject / "model.onnx", subject / "calibration.npz"
    rows = list(recipes(plan))
    with tempfile.TemporaryDirectory(prefix="pruning-") as folder:
        paths = [Path(folder, f"{number}.onnx") for number in range(len(rows))]
        macs = []
        for (name, passes), path in zip(rows, paths, strict=True):
            macs.append(run_in_child(prune, source, calibration, passes, path).value)
            print(f"{subject.name}: {name}", file=sys.stderr, flush=True)
        data = thinned(subject / "test.npz", plan.samples, Path(folder))
        report = onnxcompress.benchmark(paths, data=str(data))
    yield f"## {subject.name}"
    yield ""
    yield f"{report.data.evaluation_samples} held-out samples, {plan.amount:.0%} fewer MACs asked."
    yield ""
    yield "| model | MACs | bytes | top-1 | speed-up |"
    yield "|---|---:|---:|---:|---:|"
    for (name, _), left, model in zip(rows, macs, report.models, strict=True):
        yield f"| {name} | {left / macs[0]:.0%} | {_cells(model)} |"


def _cells(model: ModelReport) -> str:
    speed = f"{model.latency.speedup:.2f}x"
    return f"{megabytes(model.size.file_bytes)} | {100 * model.score.value:.2f} % | {speed}"


def markdown(cache: Path, names: Sequence[str], command: str) -> str:
    """All subjects as a page."""
    lines = ["# Structured pruning, without training", "", environment_line()]
    lines += [f"Made by `{command}`; at most {CALIBRATION_SAMPLES} samples without labels.", ""]
    for name in names:
        lines += [*table(find_subject(cache, name), PLANS[name]), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("channel_pruning", __doc__)
    add_subjects(parser, PLANS)
    options = parser.parse_args(arguments)
    command = command_line("channel_pruning", arguments)
    return write_page(options.output, lambda: markdown(options.cache, options.subjects, command))


if __name__ == "__main__":
    sys.exit(main())
