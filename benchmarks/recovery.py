"""What training gives back after a deep cut, with the original as the only teacher.

``python -m benchmarks.recovery [SUBJECT ...]`` prunes, recovers on unlabelled training samples,
quantizes, and measures all models of a subject in one run: held-out samples, times interleaved,
batch 1, one thread. Each row goes on from the row that it names.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxcompress
from benchmarks.child import run_in_child
from benchmarks.compare import thinned
from benchmarks.page import add_subjects, page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject, megabytes
from onnxcompress.data.loading import load_dataset
from onnxcompress.distillation.training_pass import NO_GAIN
from onnxcompress.ir import io
from onnxcompress.measure.macs import cost_by_op
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import ModelReport
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

CALIBRATION_SAMPLES = 400
"""At most; a subject may have fewer."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model that is measured.

    Attributes:
        name: what the table calls it.
        recipe: TOML, run on the cleaned model.
        start: the name of a row to go on from instead.
    """

    name: str
    recipe: str
    start: str | None = None


def _passes(*names: str) -> str:
    """A recipe of passes without options."""
    return "\n".join(f'[[pass]]\nname = "{name}"' for name in names)


def _channels(criterion: str, amount: float) -> str:
    return f"""
[[pass]]
name = "prune-channels"
criterion = "{criterion}"
scope = "global"
target = "macs"
amount = {amount}
"""


_REFIT = _passes("refit-weights", "strip-pruned")
_IMAGES = """
[[pass]]
name = "{name}"
epochs = 40
batch_size = 64
learning_rate = 1e-3
temperature = 4
augment = "images"
mirror_teacher = true
average = 0.998
{options}
"""
_ROUNDED = """
[[pass]]
name = "quantize-static"

[[pass]]
name = "fine-tune"
epochs = 3
batch_size = 64
learning_rate = 1e-4
temperature = 4
augment = "images"
mirror_teacher = true
average = 0.99
"""
_HELD = """
[[pass]]
name = "fine-tune"
epochs = 20
learning_rate = 1e-3
augment = "mixup"
grid = "{grid}"
"""
_DOCUMENTS = """
[[pass]]
name = "distill"
{options}
batch_size = 32
override = [{{ op_types = ["Gather"], exclude = true }}]
"""
_CUT_BLOCKS = (
    """
[[pass]]
name = "drop-block"
count = 3
"""
    + _channels("second-order", 0.2)
    + _REFIT
)
_STRONG = _DOCUMENTS.format(options="steps = 120\nlearning_rate = 3e-5\naverage = 0.95")
_WEAK = _DOCUMENTS.format(
    options='start = "random"\nsteps = 120\nlearning_rate = 5e-4\naverage = 0.95'
)

ROWS: Mapping[str, tuple[Row, ...]] = {
    "resnet20": (
        Row(name="random channels", recipe=_channels("random", 0.5) + _REFIT),
        Row(name="channels by l2", recipe=_channels("l2", 0.5) + _REFIT),
        Row(name="channels by taylor", recipe=_channels("taylor", 0.5) + _REFIT),
        Row(
            name="taylor, recovered",
            recipe=_IMAGES.format(name="fine-tune", options=""),
            start="channels by taylor",
        ),
        Row(
            name="taylor, recovered, int8",
            recipe=_passes("quantize-static"),
            start="taylor, recovered",
        ),
        Row(name="that, trained on in int8", recipe=_ROUNDED, start="taylor, recovered"),
        Row(
            name="channels by taylor, weak",
            recipe=_IMAGES.format(name="distill", options='start = "random"'),
            start="channels by taylor",
        ),
    ),
    "digits": (
        Row(name="ternary", recipe=_passes("ternarize-weights")),
        Row(name="ternary, trained", recipe=_HELD.format(grid="ternary")),
        Row(
            name="the same, stored",
            recipe=_passes("ternarize-weights"),
            start="ternary, trained",
        ),
        Row(name="binary", recipe=_passes("binarize-weights")),
        Row(name="binary, trained", recipe=_HELD.format(grid="binary")),
        Row(name="that, stored", recipe=_passes("binarize-weights"), start="binary, trained"),
    ),
    "minilm": (
        Row(name="3 of 6 blocks, 20 % of the rest", recipe=_CUT_BLOCKS),
        Row(name="the same, strong", recipe=_STRONG, start="3 of 6 blocks, 20 % of the rest"),
        Row(
            name="strong, int8",
            recipe=_passes("prune-vocabulary", "quantize-dynamic", "quantize-weights"),
            start="the same, strong",
        ),
        Row(name="the same, weak", recipe=_WEAK, start="3 of 6 blocks, 20 % of the rest"),
    ),
}


@dataclass(frozen=True)
class Made:
    """What became of a row.

    Attributes:
        macs: multiply-accumulates of one sample.
        minutes: that its passes took.
        told: what training said of itself; empty without training.
    """

    macs: int
    minutes: float
    told: str


def make(subject: Path, start: Path | None, recipe: str, output: Path) -> Made:
    """Runs a recipe and saves what comes of it."""
    source = subject / "model.onnx"
    inputs = Session(source).inputs
    data = load_dataset(str(subject / "calibration.npz"), inputs)
    more = subject / "training.npz"
    training = load_dataset(str(more), inputs) if more.exists() else data
    original = io.load(source)
    context = RuntimeContext(
        data.take(range(min(CALIBRATION_SAMPLES, len(data)))), training=training
    ).with_original_model(original)
    model = io.load(start or source)
    passes = Recipe.parse(recipe).passes if recipe else ()
    began = time.perf_counter()
    manager = PassManager([*(() if start else CLEAN_UP), *passes])
    reports = manager.run(model, context)
    minutes = (time.perf_counter() - began) / 60
    io.save(model, output)
    macs = sum(each.macs for each in cost_by_op(model, context.types(model)))
    lines = [c.detail for report in reports for c in report.changes if c.op == "training"]
    # Training that changed nothing is on record as a skip.
    lines += [s.reason for report in reports for s in report.skips if s.reason.startswith(NO_GAIN)]
    return Made(macs, minutes, "; ".join(lines))


def table(subject: Path, samples: int) -> Iterator[str]:
    """The lines of one subject's table."""
    rows = [Row(name="cleaned", recipe=""), *ROWS[subject.name]]
    with tempfile.TemporaryDirectory(prefix="recovery-") as folder:
        paths = {row.name: Path(folder, f"{number}.onnx") for number, row in enumerate(rows)}
        made: dict[str, Made] = {}
        for row in rows:
            start = None if row.start is None else paths[row.start]
            made[row.name] = run_in_child(make, subject, start, row.recipe, paths[row.name]).value
            print(f"{subject.name}: {row.name}: {made[row.name]}", file=sys.stderr, flush=True)
        data = thinned(subject / "test.npz", samples, Path(folder))
        report = onnxcompress.benchmark([*paths.values()], data=str(data))
    yield f"## {subject.name}"
    yield ""
    yield f"{report.data.evaluation_samples} held-out samples."
    yield ""
    yield "| model | MACs | bytes | top-1 | speed-up | minutes |"
    yield "|---|---:|---:|---:|---:|---:|"
    for row, model in zip(rows, report.models, strict=True):
        each = made[row.name]
        share = each.macs / made["cleaned"].macs
        yield f"| {row.name} | {share:.0%} | {_cells(model)} | {each.minutes:.1f} |"
    yield ""
    for row in rows:
        if made[row.name].told:
            yield f"- {row.name}: {made[row.name].told}"


def _cells(model: ModelReport) -> str:
    speed = f"{model.latency.speedup:.2f}x"
    return f"{megabytes(model.size.file_bytes)} | {100 * model.score.value:.2f} % | {speed}"


def markdown(cache: Path, names: Sequence[str], command: str, samples: int) -> str:
    """All subjects as a page."""
    lines = ["# Recovery by training, without labels", "", environment_line()]
    lines += [f"Made by `{command}`; the original model is the teacher.", ""]
    for name in names:
        lines += [*table(find_subject(cache, name), samples), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("recovery", __doc__)
    parser.add_argument("--samples", type=int, default=5000, help="held-out samples at most")
    add_subjects(parser, ROWS)
    options = parser.parse_args(arguments)
    command = command_line("recovery", arguments)
    return write_page(
        options.output,
        lambda: markdown(options.cache, options.subjects, command, options.samples),
    )


if __name__ == "__main__":
    sys.exit(main())
