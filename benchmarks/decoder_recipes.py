"""What weights of few bits do to a language model: its size and its perplexity.

``python -m benchmarks.decoder_recipes`` runs each recipe on the subject smollm2, on its calibration
texts where it asks for data, and measures the perplexity on its test texts. With ``--models`` what
the recipes wrote is kept there, for ``python -m benchmarks.decoding``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.child import ChildError, run_in_child
from benchmarks.results import RESULTS, command_line, environment_line, find_subject, megabytes
from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.errors import SubjectError
from onnxcompress.cli_arguments import parse_positive
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.measure.environment import environment
from onnxcompress.measure.metrics import METRICS
from onnxcompress.measure.size import file_bytes
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import Recipe
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session, SessionSettings

SUBJECT: Final = "smollm2"

_PLAIN = "[[pass]]\nname = 'quantize-weights'\nbits = 4\ngranularity = 'per-block'\n"
_DYNAMIC = "[[pass]]\nname = 'quantize-dynamic'\nembeddings = false\n"
_TIED = "[[pass]]\nname = 'quantize-tied-table'\n\n"
_GPTQ = "[[pass]]\nname = 'gptq'\n"
_NBITS = "form = 'matmul-nbits'\n"
_ZERO_POINTS = "symmetric = false\n"
_KEYS_AND_VALUES = """
[[pass.override]]
nodes = ["*/k_proj/*", "*/v_proj/*"]
bits = 8
"""

RECIPES: Final[Mapping[str, str]] = {
    "8 bits per channel": "[[pass]]\nname = 'quantize-weights'\n",
    "dynamic int8": _DYNAMIC,
    "smoothed, dynamic int8": f"[[pass]]\nname = 'smooth-activations'\n\n{_DYNAMIC}",
    "4 bits": _PLAIN,
    "4 bits, MatMulNBits": f"{_PLAIN}{_NBITS}",
    "4 bits, zero points": f"{_PLAIN}{_ZERO_POINTS}",
    "4 bits, zero points, MatMulNBits": f"{_PLAIN}{_ZERO_POINTS}{_NBITS}",
    "4 bits, table 8": f"{_TIED}{_PLAIN}{_NBITS}",
    "gptq, table 8": f"{_TIED}{_GPTQ}{_NBITS}",
    "gptq, zero points, table 8": f"{_TIED}{_GPTQ}{_ZERO_POINTS}{_NBITS}",
    "gptq, zero points, k and v 8, table 8": (
        f"{_TIED}{_GPTQ}{_ZERO_POINTS}{_NBITS}{_KEYS_AND_VALUES}"
    ),
}
"""Recipes by the name of their row.

Blocks hold 32 weights; the table is what tokens are looked up in and what logits are made with.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a recipe came to.

    Attributes:
        name: of the recipe.
        file_bytes: of the model.
        perplexity: on the test texts.
        seconds: the recipe took, reading and writing the model included.
        peak_bytes: the most memory that its process held; mapped pages of files count.
    """

    name: str
    file_bytes: int
    perplexity: float
    seconds: float
    peak_bytes: int


def build(subject: Path, recipe: str, output: Path) -> None:
    """Runs a recipe on the subject as `onnxcompress compress --recipe` does."""
    model = io.load(subject / "model.onnx")
    inputs = Session(subject / "model.onnx").inputs
    context = RuntimeContext(load_dataset(str(subject / "calibration.npz"), inputs))
    PassManager(Recipe.parse(recipe).passes).run(model, context)
    io.save(model, output)


def perplexity(model: Path, subject: Path, threads: int, windows: int | None) -> float:
    """On the test texts, or the first so many of them."""
    session = Session(model, SessionSettings(threads=threads))
    data = load_dataset(str(subject / "test.npz"), session.inputs)
    chosen = data.take(range(min(windows or len(data), len(data))))
    return (
        Evaluation(session, chosen, 1, METRICS["perplexity"], states=False).reference_score().value
    )


def measure(
    subject: Path, names: Sequence[str], models: Path, *, threads: int, windows: int | None
) -> tuple[Row, list[Row]]:
    """The float model, and what each recipe makes of it.

    Args:
        subject: the folder of a decoder.
        names: of recipes.
        models: where what they write goes.
        threads: to evaluate with.
        windows: texts to judge on; None for all.

    Raises:
        ChildError: a recipe failed, or took more memory than there is.
    """
    original = subject / "model.onnx"
    exact = run_in_child(perplexity, original, subject, threads, windows).value
    rows = []
    for name in names:
        output = models / f"{name.replace(', ', '-').replace(' ', '_')}.onnx"
        built = run_in_child(build, subject, RECIPES[name], output)
        rows.append(
            Row(
                name=name,
                file_bytes=file_bytes(output),
                perplexity=run_in_child(perplexity, output, subject, threads, windows).value,
                seconds=built.seconds,
                peak_bytes=built.peak_bytes,
            )
        )
        print(rows[-1], file=sys.stderr, flush=True)
    float_row = Row(
        name="float",
        file_bytes=file_bytes(original),
        perplexity=exact,
        seconds=0.0,
        peak_bytes=0,
    )
    return float_row, rows


def markdown(exact: Row, rows: Sequence[Row], *, intro: Sequence[str]) -> str:
    """The figures as a page."""
    lines = [f"# {SUBJECT} in few bits", "", *intro, ""]
    lines += ["| recipe | size | of float | perplexity | increase | seconds | peak memory |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    lines += [f"| float | {megabytes(exact.file_bytes)} | 100 % | {exact.perplexity:.2f} | | | |"]
    for row in rows:
        share = row.file_bytes / exact.file_bytes
        increase = row.perplexity / exact.perplexity - 1
        lines.append(
            f"| {row.name} | {megabytes(row.file_bytes)} | {share:.1%} | {row.perplexity:.2f} | "
            f"{increase:.1%} | {row.seconds:.0f} | {megabytes(row.peak_bytes)} |"
        )
    lines += ["", "## Recipes", ""]
    for row in rows:
        lines += [f"{row.name}:", "", "```toml", RECIPES[row.name].strip(), "```", ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if the subject was not fetched or a recipe failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoder_recipes", description=__doc__
    )
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--models", type=Path, help="folder to keep the models in")
    parser.add_argument("--threads", type=parse_positive, default=2, help="default 2")
    parser.add_argument("--windows", type=parse_positive, help="test texts; default all")
    parser.add_argument(
        "--recipe", dest="names", action="append", choices=list(RECIPES), help="default: all"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "decoder_recipes.md")
    options = parser.parse_args(arguments)
    try:
        subject = find_subject(options.cache, SUBJECT)
        with TemporaryDirectory() as temporary:
            models = options.models or Path(temporary)
            models.mkdir(parents=True, exist_ok=True)
            exact, rows = measure(
                subject,
                options.names or list(RECIPES),
                models,
                threads=options.threads,
                windows=options.windows,
            )
    except (SubjectError, ChildError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    page = markdown(
        exact,
        rows,
        intro=[
            environment_line(environment(options.threads)),
            f"Made by `{command_line('decoder_recipes', arguments)}`.",
            "Perplexity on the texts in test.npz; recipes that want data use calibration.npz.",
        ],
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
