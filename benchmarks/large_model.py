"""Shows that a model larger than a protobuf, and than the memory spent on it, can be compressed.

``python -m benchmarks.large_model`` writes a model of about 3 GB with external data, then cleans it
up and stores its weights as int8 in a fresh process, whose peak memory, mapped pages of files
included, must stay under 2 GB. The result is loaded and run by stock onnxruntime and compared with
numpy. It needs up to 2.5 times the model's size of disk space; what was written is deleted.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from benchmarks.child import ChildError, run_in_child
from benchmarks.large_model_file import LargeModel
from benchmarks.large_model_page import Result, Step, markdown
from benchmarks.results import RESULTS, command_line, megabytes
from onnxcompress.ir import io
from onnxcompress.measure.size import file_bytes
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeWeights
from onnxcompress.search.candidates import CLEAN_UP

_WIDTH: Final = 4096
_ROWS: Final = 4
_DISK_SHARE: Final = 2.5


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
        rows=_ROWS,
    )


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, writes the page; 1 if a limit was passed or nothing was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_model", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--factors", type=int, help="products with a factor to fold; default: all")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--keep", action="store_true", help="do not delete the models")
    parser.add_argument("--output", type=Path, default=RESULTS / "large_model.md")
    options = parser.parse_args(arguments)
    command = command_line("large_model", arguments)
    layers = max(1, round(options.gigabytes * 1e9 / (4 * _WIDTH**2)))
    free, needed = shutil.disk_usage(options.folder).free, layers * 4 * _WIDTH**2 * _DISK_SHARE
    if free < needed:
        told = f"{options.folder} has {megabytes(free)} free of {megabytes(needed)}"
        print(f"error: {told}", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="large-model-", dir=options.folder))
        if not options.keep:
            stack.callback(shutil.rmtree, folder)
        try:
            factors = layers if options.factors is None else options.factors
            model = LargeModel(folder=folder, width=_WIDTH, layers=layers, factors=factors)
            result = measure(model)
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
