"""Run as a program: tries cases by number, and writes one line before and one after each.

A case is made of its seed alone. What comes of it is "done", "refused", or what should not be: an
internal error, or an exception that is none of the library's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import onnx

import onnxcompress
from benchmarks.fuzz import files, models
from onnxcompress import cli
from onnxcompress.channels.inspection import inspect_groups
from onnxcompress.data.loading import load_dataset
from onnxcompress.data.memory import limit_memory
from onnxcompress.errors import InternalError, OnnxCompressError
from onnxcompress.pass_manager import OnError
from onnxcompress.recipe import Recipe
from onnxcompress.registry import find_pass, pass_types
from onnxcompress.report.json import read_sensitivity, to_json
from onnxcompress.runtime.session import Session
from onnxcompress.sensitivity.precision import weight_precisions

_LONG: Final = frozenset({"distill", "fine-tune", "swap-subgraph", "round-adaptively"})
_INTERNAL: Final = "internal error"


class Case(NamedTuple):
    """What is tried.

    Attributes:
        kind: `model`, `data`, `recipe`, `report` or `arguments`.
        file: what is written.
        content: its bytes.
        attempt: what is done with it, in its folder.
    """

    kind: str
    file: str
    content: bytes
    attempt: Callable[[], object]


def case_of(number: int) -> Case:
    """The case of a number, always the same."""
    rng = random.Random(number)  # noqa: S311 - to be the same again
    kind = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
    return _KINDS[kind][1](rng)


def outcome(case: Case) -> str:
    """Tries a case in the current folder."""
    Path(case.file).write_bytes(case.content)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            told = case.attempt()
    except InternalError as fault:
        return f"INTERNAL: {fault}"
    except OnnxCompressError as fault:
        return f"refused: {type(fault).__name__}"
    except Exception as fault:
        return f"FOREIGN: {type(fault).__name__}: {fault}"
    return told if isinstance(told, str) else "done"


def _model(rng: random.Random) -> Case:
    def passes() -> str:
        model = onnxcompress.load("model.onnx")
        chosen = [find_pass(name)() for name in names]
        reports = onnxcompress.PassManager(chosen, on_error=OnError.SKIP).run(model)
        onnxcompress.save(model, "out.onnx")
        faults = [r.error for r in reports if r.error and _INTERNAL in r.error]
        return f"INTERNAL: {faults[0]}" if faults else "done"

    names = rng.choices([name for name in pass_types() if name not in _LONG], k=rng.randint(1, 3))
    ways: list[Callable[[], object]] = [
        lambda: onnxcompress.inspect_model("model.onnx"),
        lambda: inspect_groups("model.onnx"),
        *[passes] * 6,
    ]
    return Case("model", "model.onnx", models.changed_model(rng, _bases()), rng.choice(ways))


def _data(rng: random.Random) -> Case:
    def read() -> None:
        data = load_dataset("data.npz", Session(models.DEMO).inputs)
        for _ in data.batches(rng.choice((1, 3))):
            pass

    return Case("data", "data.npz", files.data(rng), read)


def _recipe(rng: random.Random) -> Case:
    def read() -> str:
        found = Recipe.load("recipe.toml")
        same = Recipe.parse(found.dump()) == found or "nan" in found.dump()
        return "done" if same else "FOREIGN: another recipe after it was written"

    return Case("recipe", "recipe.toml", files.recipe(rng, [*pass_types(), "nothing"]), read)


def _report(rng: random.Random) -> Case:
    def read() -> None:
        report = read_sensitivity("report.json")
        onnxcompress.assign(report, max_bytes=int(0.5 * report.file_bytes))

    return Case("report", "report.json", files.json_text(rng, _sensitivity()), read)


def _arguments(rng: random.Random) -> Case:
    words = ["inspect", "bench", "passes", "assign", "model.onnx", "--json", "report.json", "-o"]
    words += ["--groups", "--shapes", "image=1x1x28x28", "--data", "", "x" * 300, "--", "-", "\0"]
    words += ["--memory-limit", "--deadline", "0", "-1", "nan", "1e999", "50%", "--size", "ü"]
    chosen = rng.choices(words, k=rng.randint(0, 6))

    def run() -> str:
        try:
            code = cli.run(chosen)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        told = sys.stderr.getvalue() if isinstance(sys.stderr, io.StringIO) else ""
        return f"INTERNAL: {told[:200]}" if _INTERNAL in told else ("refused" if code else "done")

    return Case("arguments", "model.onnx", models.DEMO.read_bytes(), run)


_KINDS: Final[dict[str, tuple[int, Callable[[random.Random], Case]]]] = {
    "model": (60, _model),
    "data": (15, _data),
    "recipe": (12, _recipe),
    "report": (8, _report),
    "arguments": (5, _arguments),
}


@cache
def _bases() -> list[onnx.ModelProto]:
    return models.base_models()


@cache
def _sensitivity() -> bytes:
    precisions = weight_precisions((8, 4))
    report = onnxcompress.analyze_sensitivity(models.DEMO, precisions, alone_only=True, samples=4)
    return to_json(report).encode()


def main() -> None:
    """Tries cases in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory-limit", type=int, default=2 << 30)
    options = parser.parse_args()
    limit_memory(options.memory_limit)
    for number in range(options.first, options.last):
        shutil.rmtree(options.folder, ignore_errors=True)
        options.folder.mkdir(parents=True)
        os.chdir(options.folder)
        case = case_of(number)
        print(json.dumps([number, case.kind]), flush=True)
        print(json.dumps([number, outcome(case)]), flush=True)


if __name__ == "__main__":
    main()
