"""How much accuracy is left of real models at 4 and 2 bits, by how weights are rounded.

``python -m benchmarks.weight_rounding`` stores all weights and tables with a scale for each block
of 32, calibrates on 64 samples, and compares top-1 and the outputs on held-out samples.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.page import add_subjects, page_parser, write_page
from benchmarks.results import command_line, environment_line, find_subject
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import GPTQ, QuantizeWeights
from onnxcompress.qdq.integer_weights import WeightBits, WeightGranularity, WeightScales
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECTS: Mapping[str, int] = {"resnet20": 1000, "efficientnet-lite0": 200, "minilm": 200}
"""Held-out samples used of each subject."""

CALIBRATION_SAMPLES = 64


def recipes(bits: WeightBits, *, symmetric: bool) -> Mapping[str, tuple[Pass, ...]]:
    """What is compared, by the name of its row; gptq leaves tables to the pass after it."""
    plain, fitted = (
        QuantizeWeights(
            bits=bits,
            symmetric=symmetric,
            granularity=WeightGranularity.PER_BLOCK,
            scales=scales,
        )
        for scales in WeightScales
    )
    return {
        "nearest": (plain,),
        "nearest, fitted scales": (fitted,),
        "gptq, fitted scales": (GPTQ(bits=bits, symmetric=symmetric), fitted),
    }


def scores(model: Model, test: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Outputs under onnxruntime's optimizations, and labels."""
    session = Session(io.to_bytes(model))
    found, labels = [], []
    for batch in test.batches(8):
        assert batch.labels is not None
        found.append(next(iter(session.run(batch.feeds).values())))
        labels.append(batch.labels)
    return np.concatenate(found), np.concatenate(labels)


def decibels(reference: np.ndarray, values: np.ndarray) -> float:
    """Signal to quantization noise of all outputs together."""
    noise = np.square(reference.astype(np.float64) - values).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))


def rows(subject: Path, samples: int) -> Iterator[str]:
    """The lines of one subject's table."""
    path = subject / "model.onnx"
    inputs = Session(path).inputs
    calibration = load_dataset(str(subject / "calibration.npz"), inputs)
    test = load_dataset(str(subject / "test.npz"), inputs).take(range(samples))
    context = RuntimeContext(calibration.take(range(CALIBRATION_SAMPLES)))
    cleaned = io.load(path)
    PassManager(CLEAN_UP).run(cleaned, context)
    expected, labels = scores(cleaned, test)
    top1 = 100 * float((expected.argmax(1) == labels).mean())
    yield f"| 32 | | float | {cleaned.weight_bytes / 1e6:.2f} | {top1:.1f} | | |"
    for bits in (WeightBits.FOUR, WeightBits.TWO):
        for symmetric in (True, False):
            for name, passes in recipes(bits, symmetric=symmetric).items():
                model = clone(cleaned)
                start = time.perf_counter()
                PassManager(passes).run(model, context)
                seconds = time.perf_counter() - start
                found, _ = scores(model, test)
                top1 = 100 * float((found.argmax(1) == labels).mean())
                zero_points = "no" if symmetric else "yes"
                yield (
                    f"| {bits} | {zero_points} | {name} | {model.weight_bytes / 1e6:.2f} | "
                    f"{top1:.1f} | {decibels(expected, found):.1f} | {seconds:.0f} |"
                )


def markdown(cache: Path, names: Sequence[str], command: str) -> str:
    """All subjects as a page."""
    lines = ["# Rounding weights to 4 and 2 bits", "", environment_line(), f"Made by `{command}`."]
    lines += ["", f"A scale for each block of 32; {CALIBRATION_SAMPLES} calibration samples.", ""]
    for name in names:
        lines += [
            f"| {name}: bits | zero points | rounding | MB | top-1 % | output SQNR dB | seconds |",
            "|---|---|---|---:|---:|---:|---:|",
        ]
        for row in rows(find_subject(cache, name), SUBJECTS[name]):
            print(row, file=sys.stderr, flush=True)
            lines.append(row)
        lines += [""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = page_parser("weight_rounding", __doc__)
    add_subjects(parser, SUBJECTS)
    options = parser.parse_args(arguments)
    command = command_line("weight_rounding", arguments)
    return write_page(options.output, lambda: markdown(options.cache, options.subjects, command))


if __name__ == "__main__":
    sys.exit(main())
