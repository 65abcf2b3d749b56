"""EfficientNet-Lite0 as it was trained, for ImageNet: with pictures that no package ships."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.subjects.efficientnet_lite0 import (
    ARCHITECTURE,
    INPUT,
    SIZE,
    WEIGHTS,
    export_to,
    normalized,
)
from benchmarks.subjects.errors import SubjectError
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

_IMAGES = "data/imagenet600"

# Every third image calibrates: the files are sorted by class, so both parts span all of them.
_CALIBRATION_STEP = 3


def _images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pictures as float32 (N, 3, 224, 224) and their classes as int64 (N,)."""
    from PIL import Image

    with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    pixels = np.empty((len(rows), 3, SIZE, SIZE), dtype=np.float32)
    for target, row in zip(pixels, rows, strict=True):
        with Image.open(folder / row["file"]) as image:
            if image.size != (SIZE, SIZE):
                raise SubjectError(f"{folder / row['file']} is {image.size}, not {SIZE}x{SIZE}")
            target[:] = np.asarray(image.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)
    return normalized(pixels), np.array([int(row["label"]) for row in rows], dtype=np.int64)


def _build(sources: Sources, folder: Path) -> Split:
    from benchmarks.subjects.efficientnet_module import load

    pixels, labels = _images(sources.shared[_IMAGES])
    module = load(sources.packages[ARCHITECTURE.name], sources.packages[WEIGHTS.name])
    export_to(module, pixels[:3], folder / "model.onnx")
    calibrates = np.arange(len(labels)) % _CALIBRATION_STEP == 0
    return Split(
        calibration=Samples(inputs={INPUT: pixels[calibrates]}, labels=labels[calibrates]),
        test=Samples(inputs={INPUT: pixels[~calibrates]}, labels=labels[~calibrates]),
    )


SUBJECT = Subject(
    name="efficientnet-lite0-imagenet",
    summary="EfficientNet-Lite0 for ImageNet, raw export",
    licenses="weights and architecture Apache-2.0; images: bring your own",
    inputs={INPUT: f"(RGB pixel - 127) / 128, NCHW float32 of {SIZE}x{SIZE} pixels"},
    metric=TOP1,
    build=_build,
    packages=(WEIGHTS, ARCHITECTURE),
    shared=(_IMAGES,),
    libraries=("numpy", "onnx", "onnxruntime", "pillow", "scikit-learn", "torch"),
)
