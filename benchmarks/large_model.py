"""Shows that a model larger than a protobuf, and than the memory spent on it, can be compressed.

``python -m benchmarks.large_model`` writes a model of about 3 GB with external data, then cleans it
up and stores its weights as int8 in a fresh process, whose peak memory, mapped pages of files
included, must stay under 2 GB. The result is loaded and run by stock onnxruntime and compared with
numpy. It needs about 1.3 times the model's size of disk space; what was written is deleted.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from benchmarks.child import ChildError, Outcome, run_in_child
from benchmarks.large_model_file import LargeModel
from benchmarks.results import RESULTS, command_line, environment_line, megabytes
from onnxcompress.ir import io
from onnxcompress.measure.size import file_bytes
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeWeights
from onnxcompress.search.candidates import CLEAN_UP

LIMIT_BYTES: Final = 2_000_000_000
MAX_ROUNDED_ERROR: Final = 1e-4
"""Of the result as written, relative to numpy with the same int8 weights: both sum in float32."""

_WIDTH: Final = 4096
_ROWS: Final = 4
_DISK_SHARE: Final = 1.3


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one pass did, or the loading or saving of the model."""

    name: str
    seconds: float
    changes: int = 0
    skips: int = 0
    verification: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a large model.

    Attributes:
        model: the original.
        size: bytes of the result's files.
        shrunk: the process that made it.
        ran: the process in which stock onnxruntime ran it.
        float_error: how far its outputs lie from the original's by numpy: the root of the sum of
            squares, relative to theirs.
        rounded_error: likewise, numpy rounding the weights itself, onnxruntime not optimizing (it
            may round activations too).
    """

    model: LargeModel
    size: int
    shrunk: Outcome[list[Step]]
    ran: Outcome[np.ndarray]
    float_error: float
    rounded_error: float

    @property
    def good(self) -> bool:
        """Whether memory stayed below the limit and the outputs are what they should be."""
        return self.shrunk.peak_bytes < LIMIT_BYTES and self.rounded_error < MAX_ROUNDED_ERROR


def shrink(source: Path, output: Path) -> list[Step]:
    """Loads, cleans up, quantizes and saves; to be called in a fresh process."""
    began = time.perf_counter()
    model = io.load(source)
    steps = [Step(name="load", seconds=time.perf_counter() - began)]
    steps += [
        Step(
            name=report.name,
            seconds=report.seconds,
            changes=len(report.changes),
            skips=len(report.skips),
            verification=report.verification,
        )
        for report in PassManager((*CLEAN_UP, QuantizeWeights())).run(model)
    ]
    began = time.perf_counter()
    io.save(model, output)
    return [*steps, Step(name="save", seconds=time.perf_counter() - began)]


def run(path: Path, rows: np.ndarray, optimize: bool) -> np.ndarray:
    """Onnxruntime's result, with its default settings or without its optimizer.

    To be called in a fresh process.
    """
    options = ort.SessionOptions()
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {session.get_inputs()[0].name: rows})[0]
    return result


def measure(model: LargeModel) -> Result:
    """Writes the model, compresses it, and compares the result with numpy.

    Raises:
        ChildError: a process failed or was killed.
    """
    output = model.folder / "result.onnx"
    model.write()
    shrunk = run_in_child(shrink, model.path, output)
    rows = model.inputs(_ROWS)
    ran = run_in_child(run, output, rows, True)
    plain = run_in_child(run, output, rows, False)
    return Result(
        model=model,
        size=file_bytes(output),
        shrunk=shrunk,
        ran=ran,
        float_error=_error(ran.value, model.reference(rows, rounded=False)),
        rounded_error=_error(plain.value, model.reference(rows, rounded=True)),
    )


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def markdown(result: Result, command: str) -> str:
    """The result as a page."""
    model, size = result.model, result.model.weight_bytes
    steps = "\n".join(
        f"| {s.name} | {s.seconds:.1f} | {s.changes} | {s.skips} | {s.verification} |"
        for s in result.shrunk.value
    )
    factors = sum(map(model.has_factor, range(model.layers)))
    return f"""# A model larger than the memory spent on it

{environment_line()}
Made by `{command}`.

{model.layers} products with {model.width}x{model.width} weights, {factors} of them with a factor
that clean-up folds into the weight. The passes of clean-up and `quantize-weights` ran in one
process.

| | |
|---|---:|
| weights before | {megabytes(size)} |
| files after | {megabytes(result.size)}, {result.size / size:.1%} |
| **peak memory, mapped pages included** | **{megabytes(result.shrunk.peak_bytes)}** |
| limit | {megabytes(LIMIT_BYTES)} |
| seconds | {result.shrunk.seconds:.0f} |
| stock onnxruntime, loading and running the result | {megabytes(result.ran.peak_bytes)} |
| outputs, not optimized, against numpy with weights rounded to int8 | {result.rounded_error:.1e} |
| outputs against numpy with float weights | {result.float_error:.1e} |

Errors are relative, over {_ROWS} rows.

| step | seconds | changes | left alone | checked |
|---|---:|---:|---:|---|
{steps}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes the page; 1 if a limit was passed or nothing was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_model", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--keep", action="store_true", help="do not delete the models")
    parser.add_argument("--output", type=Path, default=RESULTS / "large_model.md")
    options = parser.parse_args(arguments)
    command = command_line("large_model", sys.argv[1:] if arguments is None else arguments)
    layers = max(1, round(options.gigabytes * 1e9 / (4 * _WIDTH**2)))
    free, needed = shutil.disk_usage(options.folder).free, layers * 4 * _WIDTH**2 * _DISK_SHARE
    if free < needed:
        print(f"error: {options.folder} has {megabytes(free)} free of {megabytes(needed)}")
        return 1
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="large-model-", dir=options.folder))
        if not options.keep:
            stack.callback(shutil.rmtree, folder)
        try:
            result = measure(LargeModel(folder=folder, width=_WIDTH, layers=layers))
        except ChildError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    page = markdown(result, command)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(page)
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
