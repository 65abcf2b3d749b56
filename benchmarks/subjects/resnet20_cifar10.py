"""ResNet-20 for CIFAR-10, a model and images that no package ships."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.images import normalized_nchw
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

_MODEL = "models/resnet20_cifar10.onnx"
_TRAIN = "data/cifar10_train10k.npz"
_TEST = "data/cifar10_test5k.npz"

# One training image in ten calibrates: 1000 images.
_CALIBRATION_STEP = 10

# Not recorded in the model: of the usual constants these do best on the training images.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def _samples(path: Path, step: int) -> Samples:
    with np.load(path, allow_pickle=False) as arrays:
        images, labels = arrays["images"][::step], arrays["labels"][::step]
    pixels = normalized_nchw(images, mean=_MEAN, std=_STD)
    return Samples(inputs={"input": pixels}, labels=labels.astype(np.int64))


def _build(sources: Sources, folder: Path) -> Split:
    shutil.copyfile(sources.shared[_MODEL], folder / "model.onnx")
    return Split(
        calibration=_samples(sources.shared[_TRAIN], _CALIBRATION_STEP),
        test=_samples(sources.shared[_TEST], 1),
        training=_samples(sources.shared[_TRAIN], 1),
    )


SUBJECT = Subject(
    name="resnet20-cifar10",
    summary="ResNet-20 for CIFAR-10, option-A shortcuts",
    licenses="model and images: bring your own",
    inputs={
        "input": f"RGB / 255, less mean {_MEAN}, over std {_STD}, NCHW float32 of 32x32 pixels"
    },
    metric=TOP1,
    build=_build,
    shared=(_MODEL, _TRAIN, _TEST),
)
