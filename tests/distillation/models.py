"""Small models and data to train on."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of
from onnxcompress.distillation.lessons import Lesson
from onnxcompress.distillation.plan import Trained, Training
from onnxcompress.distillation.trainer import Trainer, targets_of
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Constant, Model
from onnxcompress.runtime.lessons import TaughtSamples
from onnxcompress.runtime.session import Session
from tests.helpers import tensor
from tests.passes.support import model_of, normal, opset

Array = np.ndarray

FEATURES, HIDDEN, CLASSES = 6, 8, 3


def perceptron(seed: int = 0, *, batch: str = "n", ending: str = "") -> Model:
    """x -> Gemm -> Relu -> Gemm, and perhaps what makes `y` of `z`.

    Args:
        seed: of the weights.
        batch: the first axis.
        ending: the last node, reading `z`; `y = Identity(z)` by default.
    """
    return model_of(
        opset(17)
        + f"""
        agraph (float[{batch},{FEATURES}] x) => (float[{batch},{CLASSES}] y) {{
            a = Gemm(x, w1, b1)
            h = Relu(a)
            z = Gemm(h, w2, b2)
            y = {ending or "Identity(z)"}
        }}""",
        w1=normal(FEATURES, HIDDEN, seed=seed) * np.float32(0.5),
        b1=normal(HIDDEN, seed=seed + 1) * np.float32(0.1),
        w2=normal(HIDDEN, CLASSES, seed=seed + 2) * np.float32(0.5),
        b2=normal(CLASSES, seed=seed + 3) * np.float32(0.1),
    )


def moved(model: Model, spread: float = 0.3, seed: int = 50) -> Model:
    """A copy whose weights are a bit off."""
    other = clone(model)
    for index, constant in enumerate(other.constants()):
        if constant.dtype == np.float32:
            noise = normal(*constant.shape, seed=seed + index) * np.float32(spread)
            constant.values = constant.values + noise
    return other


def samples(model: Model, count: int = 40, seed: int = 9, labels: Array | None = None) -> Dataset:
    """Standard normal inputs."""
    arrays = {"x": normal(count, FEATURES, seed=seed)}
    if labels is not None:
        arrays["labels"] = labels
    return dataset_of(arrays, Session(io.to_bytes(model)).inputs)


def unheard(done: int, total: int) -> None:
    """Progress that nobody looks at."""
    del done, total


def train(
    training: Training, data: Dataset, progress: Callable[[int, int], None] | None = None
) -> Trained:
    """One training, as the context does it."""
    lessons = TaughtSamples(data, training.teacher, targets_of(training), training.inputs)
    return Trainer(training, lessons, progress or unheard).run()


def by_name(trained: Trained) -> dict[str, Array]:
    """The new values."""
    return {constant.name: values for constant, values in trained.values.items()}


def stored_bytes(trained: Trained) -> dict[str, bytes]:
    """The new values, to be compared to the last bit."""
    return {constant.name: values.tobytes() for constant, values in trained.values.items()}


def put(model: Model, trained: Trained) -> Model:
    """A copy of a model with what was trained."""
    other = clone(model)
    names = by_name(trained)
    for constant in other.constants():
        if constant.name in names:
            constant.values = names[constant.name]
    return other


def constant(model: Model, name: str) -> Constant:
    """A stored tensor by name."""
    found = tensor(model, name)
    assert isinstance(found, Constant)
    return found


class Spied:
    """Lessons that remember which samples were taken for what.

    Args:
        lessons: whose they are.

    Attributes:
        stepped: samples of batches that steps were made of (these are varied).
        looked: samples of the others.
    """

    def __init__(self, lessons: TaughtSamples):
        self._lessons = lessons
        self.stepped: list[int] = []
        self.looked: list[int] = []

    def __len__(self) -> int:
        return len(self._lessons)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lessons, name)

    def batches(self, order: Any, size: int, vary: Any = None) -> Any:
        lesson: Lesson
        done = 0
        kept = self.looked if vary is None else self.stepped
        for lesson in self._lessons.batches(order, size, vary):
            kept.extend(int(each) for each in order[done : done + lesson.count])
            done += lesson.count
            yield lesson


def forward(weights: Mapping[str, Array], x: Array) -> Array:
    """What `perceptron` gives, in float64."""
    w = {name: each.astype(np.float64) for name, each in weights.items()}
    hidden = np.maximum(x.astype(np.float64) @ w["w1"] + w["b1"], 0)
    return hidden @ w["w2"] + w["b2"]
