"""What each pass does for the accuracy of static int8, on real models.

``python -m benchmarks.accuracy_recipes`` calibrates on 100 samples, quantizes with one scale for
each weight and with one for each output channel, and compares top-1 on held-out samples, and how
far the scores are from those of the float model.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.results import RESULTS, command_line, environment_line, find_subject
from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.errors import SubjectError
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import (
    CorrectBias,
    EqualizeChannels,
    QuantizeStatic,
    RoundAdaptively,
    SmoothActivations,
)
from onnxcompress.quantization.observers import Observer
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECTS: Mapping[str, int] = {"efficientnet-lite0": 400, "resnet20": 2000, "minilm": 1000}
"""Held-out samples used of each subject."""

CALIBRATION_SAMPLES = 100


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How good a model is.

    Attributes:
        top1: percent of samples whose label has the highest score.
        sqnr: of the scores, against those of the float model, in dB.
    """

    top1: float
    sqnr: float

    def __str__(self) -> str:
        return (
            f"{self.top1:.2f}, {self.sqnr:.1f} dB"
            if math.isfinite(self.sqnr)
            else f"{self.top1:.2f}"
        )


def recipes(*, per_channel: bool) -> Mapping[str, tuple[Pass, ...]]:
    """What is compared, by the name of its row."""
    static = QuantizeStatic(per_channel=per_channel)
    by_error = replace(static, observer=Observer.OUTPUT_ERROR)
    rounding = RoundAdaptively(per_channel=per_channel)
    equalize, smooth, correct = EqualizeChannels(), SmoothActivations(), CorrectBias()
    return {
        "quantize-static": (static,),
        "quantize-static:observer=mse": (replace(static, observer=Observer.MSE),),
        "quantize-static:observer=output-error": (by_error,),
        "equalize-channels, quantize-static": (equalize, static),
        "smooth-activations, quantize-static": (smooth, static),
        "quantize-static, correct-bias": (static, correct),
        "round-adaptively, quantize-static": (rounding, static),
        "round-adaptively, quantize-static:observer=output-error": (rounding, by_error),
        "equalize-channels, round-adaptively, quantize-static, correct-bias": (
            equalize,
            rounding,
            static,
            correct,
        ),
    }


def scores_of(model: Model, test: Dataset) -> np.ndarray:
    """The first output for all samples, under onnxruntime's optimizations: [samples, classes]."""
    session = Session(io.to_bytes(model))
    batches = test.batches(8)
    return np.concatenate([next(iter(session.run(each.feeds).values())) for each in batches])


def judge(scores: np.ndarray, exact: np.ndarray, labels: np.ndarray) -> Figures:
    """Compares scores with the labels and with the float model's scores."""
    noise = float(np.square(scores.astype(np.float64) - exact).sum())
    signal = float(np.square(exact.astype(np.float64)).sum())
    return Figures(
        top1=100 * float(np.mean(scores.argmax(axis=1) == labels)),
        sqnr=10 * math.log10(signal / noise) if noise else math.inf,
    )


def measure(subject: Path, samples: int) -> tuple[Figures, list[tuple[str, Figures, Figures]]]:
    """The float model, and each recipe per tensor and per channel."""
    path = subject / "model.onnx"
    inputs = Session(path).inputs
    calibration = load_dataset(str(subject / "calibration.npz"), inputs)
    test = load_dataset(str(subject / "test.npz"), inputs).take(range(samples))
    labels = np.concatenate(
        [batch.labels for batch in test.batches(64) if batch.labels is not None]
    )
    context = RuntimeContext(calibration.take(range(CALIBRATION_SAMPLES)))
    cleaned = io.load(path)
    PassManager(CLEAN_UP).run(cleaned, context)
    exact = scores_of(cleaned, test)
    columns = [recipes(per_channel=per_channel) for per_channel in (False, True)]
    rows = []
    for name in columns[0]:
        figures = []
        for column in columns:
            model = clone(cleaned)
            PassManager(column[name]).run(model, context)
            figures.append(judge(scores_of(model, test), exact, labels))
        rows.append((name, figures[0], figures[1]))
        print(subject.name, *map(str, rows[-1]), flush=True)
    return judge(exact, exact, labels), rows


def pages(cache: Path, command: str) -> Iterator[str]:
    """The page, with one more subject each time."""
    lines = ["# Accuracy of static int8", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        "Top-1 in percent, and the SQNR of the scores against the float model's, on held-out",
        f"samples; calibrated on {CALIBRATION_SAMPLES} others, min-max ranges if nothing is said.",
        "",
    ]
    for name, samples in SUBJECTS.items():
        exact, rows = measure(find_subject(cache, name), samples)
        lines += [f"| {name}, {samples} samples | per tensor | per channel |", "|---|---:|---:|"]
        lines += [f"| float | {exact} | {exact} |"]
        lines += [f"| {row} | {tensor} | {channel} |" for row, tensor, channel in rows]
        lines += [""]
        yield "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy_recipes", description=__doc__
    )
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--output", type=Path, default=RESULTS / "accuracy_recipes.md")
    options = parser.parse_args(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        for page in pages(options.cache, command_line("accuracy_recipes", arguments)):
            options.output.write_text(page, encoding="utf-8")
    except SubjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
