"""What each pass does for the accuracy of static int8, on real models.

``python -m benchmarks.accuracy_recipes`` calibrates on 100 samples, quantizes with one scale for
each weight and with one for each output channel, and compares top-1 on held-out samples, and how
far the scores are from those of the float model. ``--recipe`` and ``--samples`` make it shorter.
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

from benchmarks.page import add_subjects
from benchmarks.results import RESULTS, command_line, environment_line, find_subject
from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.errors import SubjectError
from onnxcompress.cli_arguments import parse_positive
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
    QuantizeDynamic,
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
    equalize, correct = EqualizeChannels(), CorrectBias()
    smooth = SmoothActivations(per_channel=per_channel)
    with_nodes = replace(smooth, add_nodes=True)
    named: dict[str, tuple[Pass, ...]] = {
        "quantize-static": (static,),
        "quantize-static:observer=mse": (replace(static, observer=Observer.MSE),),
        "quantize-static:observer=output-error": (by_error,),
        "equalize-channels, quantize-static": (equalize, static),
        "smooth-activations, quantize-static": (smooth, static),
        "smooth-activations:add_nodes=true, quantize-static": (with_nodes, static),
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
    if per_channel:  # quantize-dynamic has no other scales
        dynamic = QuantizeDynamic(embeddings=False)
        named |= {
            "quantize-dynamic": (dynamic,),
            "smooth-activations, quantize-dynamic": (smooth, dynamic),
            "smooth-activations:add_nodes=true, quantize-dynamic": (with_nodes, dynamic),
        }
    return named


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


Row = tuple[str, Figures | None, Figures]
"""A recipe's name, and what it comes to per tensor, if it can, and per channel."""


def measure(subject: Path, samples: int, names: Sequence[str]) -> tuple[Figures, list[Row]]:
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

    def figures(passes: Sequence[Pass]) -> Figures:
        model = clone(cleaned)
        PassManager(passes).run(model, context)
        return judge(scores_of(model, test), exact, labels)

    per_tensor, per_channel = (recipes(per_channel=each) for each in (False, True))
    rows: list[Row] = []
    for name in names:
        tensor = figures(per_tensor[name]) if name in per_tensor else None
        rows.append((name, tensor, figures(per_channel[name])))
        print(subject.name, *map(str, rows[-1]), flush=True)
    return judge(exact, exact, labels), rows


def pages(
    cache: Path, subjects: Sequence[str], most: int | None, names: Sequence[str], command: str
) -> Iterator[str]:
    """The page, with one more subject each time.

    Args:
        cache: where subjects are.
        subjects: some of `SUBJECTS`.
        most: samples of each; None for those in `SUBJECTS`.
        names: of recipes.
        command: that makes the page.
    """
    lines = ["# Accuracy of static int8", "", environment_line(), f"Made by `{command}`.", ""]
    lines += [
        "Top-1 in percent, and the SQNR of the scores against the float model's, on held-out",
        f"samples; calibrated on {CALIBRATION_SAMPLES} others, min-max ranges if nothing is said.",
        "quantize-dynamic leaves the tables that tokens are looked up in float.",
        "",
    ]
    for name in subjects:
        samples = min(SUBJECTS[name], most or SUBJECTS[name])
        exact, rows = measure(find_subject(cache, name), samples, names)
        lines += [f"| {name}, {samples} samples | per tensor | per channel |", "|---|---:|---:|"]
        lines += [f"| float | {exact} | {exact} |"]
        lines += [f"| {row} | {tensor or ''} | {channel} |" for row, tensor, channel in rows]
        lines += [""]
        yield "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy_recipes", description=__doc__
    )
    add_subjects(parser, SUBJECTS)
    parser.add_argument("--samples", type=parse_positive, help="at most of each subject")
    parser.add_argument(
        "--recipe",
        dest="names",
        action="append",
        choices=list(recipes(per_channel=True)),
        help="default: all",
    )
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--output", type=Path, default=RESULTS / "accuracy_recipes.md")
    options = parser.parse_args(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        names = options.names or list(recipes(per_channel=True))
        command = command_line("accuracy_recipes", arguments)
        for page in pages(options.cache, options.subjects, options.samples, names, command):
            options.output.write_text(page, encoding="utf-8")
    except SubjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
