"""What smaller stand-ins cost and gain: factors, dropped blocks, parts that were swapped.

``python -m benchmarks.students [SUBJECT ...]`` rewrites cleaned models on calibration samples
without labels and measures all models of a subject in one run: held-out samples, times interleaved,
batch 1, one thread. Nothing is trained but the parts that `swap-subgraph` fits.
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
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import parse_pass
from onnxcompress.report.schema import ModelReport
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is tried on a subject.

    Attributes:
        samples: held-out samples used.
        calibration: samples that the passes see.
        rows: passes as the command line takes them.
    """

    samples: int
    calibration: int
    rows: tuple[tuple[str, ...], ...]


_PART = "swap-subgraph:nodes=/layer2/layer2.1/*,limit=9"

PLANS: Mapping[str, Plan] = {
    "resnet20": Plan(
        samples=2000,
        calibration=500,
        rows=(
            ("factorize-weights:ratio=0.7,by_data=false",),
            ("factorize-weights:ratio=0.7",),
            ("factorize-weights:ratio=0.7", "refit-weights"),
            ("drop-block:count=2",),
            *(
                (f"{_PART},student={student},{steps}",)
                for student in ("narrow", "low-rank", "separable")
                for steps in ("steps=0", "steps=300")
            ),
            *(
                (f"{_PART},student={student},steps=0", "refit-weights")
                for student in ("narrow", "separable", "identity")
            ),
        ),
    ),
    "minilm": Plan(
        samples=500,
        calibration=64,
        rows=(
            ("factorize-weights:ratio=0.7,by_data=false",),
            ("factorize-weights:ratio=0.7",),
            ("factorize-weights:ratio=0.5",),
            ("factorize-weights:ratio=0.5", "refit-weights"),
            ("drop-block:count=3",),
            ("drop-block:count=6,whole=false",),
            ("drop-block:count=6,whole=false,criterion=outputs",),
        ),
    ),
}


def rewrite(source: Path, data: Path, most: int, passes: Sequence[str], output: Path) -> int:
    """Runs passes on the cleaned model; returns the parameters that are left."""
    samples = load_dataset(str(data), Session(source).inputs)
    context = RuntimeContext(samples.take(range(min(most, len(samples)))))
    model = io.load(source)
    PassManager([*CLEAN_UP, *map(parse_pass, passes)]).run(model, context)
    io.save(model, output)
    return model.parameters


def table(subject: Path, plan: Plan) -> Iterator[str]:
    """The lines of one subject's table."""
    source, calibration = subject / "model.onnx", subject / "calibration.npz"
    rows: list[tuple[str, ...]] = [(), *plan.rows]
    with tempfile.TemporaryDirectory(prefix="students-") as folder:
        paths = [Path(folder, f"{number}.onnx") for number in range(len(rows))]
        left = []
        for passes, path in zip(rows, paths, strict=True):
            done = run_in_child(rewrite, source, calibration, plan.calibration, passes, path)
            left.append(done.value)
            print(f"{subject.name}: {' '.join(passes)}", file=sys.stderr, flush=True)
        data = thinned(subject / "test.npz", plan.samples, Path(folder))
        report = onnxcompress.benchmark(paths, data=str(data))
    yield f"## {subject.name}"
    yield ""
    yield f"{report.data.evaluation_samples} held-out samples, {plan.calibration} to calibrate."
    yield ""
    yield "| passes | parameters | bytes | top-1 | speed-up |"
    yield "|---|---:|---:|---:|---:|"
    for passes, parameters, model in zip(rows, left, report.models, strict=True):
        name = ", ".join(f"`{each}`" for each in passes) or "cleaned"
        yield f"| {name} | {parameters / left[0]:.0%} | {_cells(model)} |"


def _cells(model: ModelReport) -> str:
    speed = f"{model.latency.speedup:.2f}x"
    return f"{megabytes(model.size.file_bytes)} | {100 * model.score.value:.2f} % | {speed}"


def markdown(cache: Path, names: Sequence[str], command: str) -> str:
    """All subjects as a page."""
    lines = ["# Smaller stand-ins", "", environment_line(), f"Made by `{command}`.", ""]
    for name in names:
        lines += [*table(find_subject(cache, name), PLANS[name]), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("students", __doc__)
    add_subjects(parser, PLANS)
    options = parser.parse_args(arguments)
    command = command_line("students", arguments)
    return write_page(options.output, lambda: markdown(options.cache, options.subjects, command))


if __name__ == "__main__":
    sys.exit(main())
