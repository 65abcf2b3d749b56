"""What each pass does for the accuracy of static int8, on real models.

``python -m benchmarks.accuracy_recipes`` calibrates on 100 images, quantizes with one scale for
each weight and with one for each output channel, and compares top-1 on held-out images.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
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
from onnxcompress.passes import CorrectBias, EqualizeChannels, QuantizeStatic, RoundAdaptively
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

SUBJECTS: Mapping[str, int] = {"efficientnet-lite0": 400, "resnet20": 2000}
"""Held-out images used of each subject."""

CALIBRATION_IMAGES = 100


def recipes(*, per_channel: bool) -> Mapping[str, tuple[Pass, ...]]:
    """What is compared, by the name of its row."""
    static = QuantizeStatic(per_channel=per_channel)
    rounding = RoundAdaptively(per_channel=per_channel)
    equalize, correct = EqualizeChannels(), CorrectBias()
    return {
        "quantize-static": (static,),
        "equalize-channels, quantize-static": (equalize, static),
        "quantize-static, correct-bias": (static, correct),
        "round-adaptively, quantize-static": (rounding, static),
        "all four": (equalize, rounding, static, correct),
    }


def top1(model: Model, test: Dataset) -> float:
    """Percent of samples whose label has the highest score, under onnxruntime's optimizations."""
    session = Session(io.to_bytes(model))
    hits = 0
    for batch in test.batches(8):
        assert batch.labels is not None
        scores = next(iter(session.run(batch.feeds).values()))
        hits += int(np.sum(scores.argmax(axis=1) == batch.labels))
    return 100 * hits / len(test)


def measure(subject: Path, images: int) -> tuple[float, list[tuple[str, float, float]]]:
    """Top-1 of the float model, and of each recipe per tensor and per channel."""
    path = subject / "model.onnx"
    inputs = Session(path).inputs
    calibration = load_dataset(str(subject / "calibration.npz"), inputs)
    test = load_dataset(str(subject / "test.npz"), inputs).take(range(images))
    context = RuntimeContext(calibration.take(range(CALIBRATION_IMAGES)))
    cleaned = io.load(path)
    PassManager(CLEAN_UP).run(cleaned, context)
    columns = [recipes(per_channel=per_channel) for per_channel in (False, True)]
    rows = []
    for name in columns[0]:
        figures = []
        for column in columns:
            model = clone(cleaned)
            PassManager(column[name]).run(model, context)
            figures.append(top1(model, test))
        rows.append((name, figures[0], figures[1]))
    return top1(cleaned, test), rows


def markdown(cache: Path, command: str) -> str:
    """All subjects as a page."""
    lines = ["# Accuracy of static int8", "", environment_line(), f"Made by `{command}`.", ""]
    lines += ["Top-1 in percent; min-max ranges of 100 calibration images.", ""]
    for name, images in SUBJECTS.items():
        exact, rows = measure(find_subject(cache, name), images)
        lines += [f"| {name}, {images} images | per tensor | per channel |", "|---|---:|---:|"]
        lines += [f"| float | {exact:.2f} | {exact:.2f} |"]
        lines += [f"| {row} | {tensor:.2f} | {channel:.2f} |" for row, tensor, channel in rows]
        lines += [""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the page; 1 if a subject was not fetched."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy_recipes", description=__doc__
    )
    parser.add_argument("--cache", type=Path, default=default_cache(os.environ))
    parser.add_argument("--output", type=Path, default=RESULTS / "accuracy_recipes.md")
    options = parser.parse_args(arguments)
    try:
        page = markdown(options.cache, command_line("accuracy_recipes", arguments))
    except SubjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
