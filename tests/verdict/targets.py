"""Outputs of the real models that mistakes are made to, and how these models lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tests.verdict.mistakes import Layout
from tests.verdict.support import Outputs

_STEPS = 8


_PLAIN: Final = Layout()


@dataclass(frozen=True, kw_only=True)
class Target:
    """Outputs of one model that are wrong together, while its others stay as they were.

    Attributes:
        model: by name.
        outputs: of one layout.
        layout: where they keep what.
        chooses: whether channels are classes, one of which is the answer.
        are_names: whether they are classes by themselves, as whole numbers or in words.
    """

    model: str
    outputs: tuple[str, ...]
    layout: Layout = _PLAIN
    chooses: bool = False
    are_names: bool = False

    def __str__(self) -> str:
        """The name of a test."""
        return f"{self.model}-{self.outputs[0]}"

    def read(self, answers: Outputs, name: str) -> np.ndarray:
        """An output as (samples, *output), float64 with its channels last.

        Maps are a channel for each key. What is no number is the number of its class, and a sample
        then is a row of one for it.
        """
        values = [each[name] for each in answers]
        if isinstance(values[0], list):
            return np.array([[[*row.values()] for row in each] for each in values])
        stacked = np.stack(values)
        if stacked.dtype.kind != "f":
            classes = np.unique(stacked)
            return np.eye(len(classes))[np.searchsorted(classes, stacked)]
        axis = -1 if self.layout.channels is None else self.layout.channels
        return np.moveaxis(stacked.astype(np.float64), axis, -1)

    def write(self, values: np.ndarray, answers: Outputs, name: str) -> Sequence[Any]:
        """What `read` gave, changed, as the model would say it: one entry a sample."""
        first = answers[0][name]
        if isinstance(first, list):
            return [
                [dict(zip(row, numbers, strict=True)) for row, numbers in zip(*pair, strict=True)]
                for pair in zip((each[name] for each in answers), values.tolist(), strict=True)
            ]
        if first.dtype.kind != "f":
            classes = np.unique(np.stack([each[name] for each in answers]))
            return [*classes[values.argmax(axis=-1)]]
        axis = -1 if self.layout.channels is None else self.layout.channels
        return [*np.moveaxis(values, -1, axis).astype(first.dtype)]


def replaced(answers: Outputs, wrong: dict[str, Sequence[Any]]) -> Outputs:
    """The answers with some outputs changed."""
    return [
        {**each, **{name: values[place] for name, values in wrong.items()}}
        for place, each in enumerate(answers)
    ]


def _boxes_in_pixels(values: np.ndarray, share: float) -> np.ndarray:
    moved = values.copy()
    moved[..., 0] += share * values[..., 2]
    return moved


def _boxes_in_cells(values: np.ndarray, share: float) -> np.ndarray:
    moved = values.copy()
    moved[..., 0] += share * np.exp(values[..., 2])
    return moved


def _boxes_as_distributions(values: np.ndarray, share: float) -> np.ndarray:
    """How far left, top, right and bottom are, each a softmax over whole steps."""
    sides = values.reshape(*values.shape[:-1], 4, _STEPS)
    shares = np.exp(sides - sides.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    far = shares @ np.arange(float(_STEPS))
    steps = share * (far[..., 0] + far[..., 2])[..., None]
    for side, towards in ((0, -1), (2, 1)):
        part = shares[..., side, :]
        shares[..., side, :] = (1 - steps) * part + steps * np.roll(part, towards, axis=-1)
    return np.log(np.maximum(shares, 1e-12)).reshape(values.shape)


_LAYOUT_SCORES: Final = tuple(f"transpose_{each}.tmp_0" for each in (0, 2, 4, 6))
_LAYOUT_BOXES: Final = tuple(f"transpose_{each}.tmp_0" for each in (1, 3, 5, 7))
_COLUMNS: Final = Layout(channels=-1)

TARGETS: Final = (
    Target(
        model="nudenet",
        outputs=("output0",),
        layout=Layout(channels=-2, scores=4, move=_boxes_in_pixels),
        chooses=True,
    ),
    Target(
        model="ddddocr-detector",
        outputs=("output",),
        layout=Layout(channels=-1, scores=4, move=_boxes_in_cells),
    ),
    Target(model="layout", outputs=_LAYOUT_SCORES, layout=_COLUMNS, chooses=True),
    Target(
        model="layout",
        outputs=_LAYOUT_BOXES,
        layout=Layout(channels=-1, move=_boxes_as_distributions),
    ),
    Target(
        model="ddddocr-recognizer",
        outputs=("387",),
        layout=Layout(channels=-1, blank=0),
        chooses=True,
    ),
    Target(
        model="captcha-crnn",
        outputs=("logits",),
        layout=Layout(channels=-1, blank=36),
        chooses=True,
    ),
    Target(model="dnsmos", outputs=("Identity:0",), layout=_COLUMNS),
    Target(model="wake-word", outputs=("39",)),
    Target(model="silero-vad", outputs=("output",)),
    Target(model="silero-vad", outputs=("hn",), layout=_COLUMNS),
    Target(model="silero-vad", outputs=("cn",), layout=_COLUMNS),
    Target(model="nsnet2", outputs=("output",), layout=_COLUMNS),
    Target(model="text-detection", outputs=("sigmoid_0.tmp_0",)),
    Target(model="cloud-mask", outputs=("output",), layout=Layout(channels=-3), chooses=True),
    Target(model="table-class", outputs=("output",), layout=_COLUMNS, chooses=True),
    Target(model="open-nsfw", outputs=("4195",), layout=_COLUMNS, chooses=True),
    Target(model="keyword-embedding", outputs=("feature_output",), layout=_COLUMNS),
    Target(model="speech-features", outputs=("conv2d_19",), layout=_COLUMNS),
    Target(model="boosting", outputs=("variable",)),
    Target(
        model="forest", outputs=("output_label",), layout=_COLUMNS, chooses=True, are_names=True
    ),
    Target(model="forest", outputs=("output_probability",), layout=_COLUMNS, chooses=True),
    Target(
        model="logistic", outputs=("output_label",), layout=_COLUMNS, chooses=True, are_names=True
    ),
    Target(model="logistic", outputs=("output_probability",), layout=_COLUMNS, chooses=True),
    Target(model="perceptron", outputs=("label",), layout=_COLUMNS, chooses=True, are_names=True),
    Target(model="perceptron", outputs=("probabilities",), layout=_COLUMNS),
)
