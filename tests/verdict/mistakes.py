"""Known mistakes, made to what a real model answers: all its samples, channels last.

An output comes as (samples, *output), its axis of different things moved to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

Rng = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where an output keeps what.

    Attributes:
        channels: the axis of different things, counted from the end; None if all the numbers say
            one thing.
        scores: of a detector, the first of the channels that are scores; those before are boxes.
        move: of a detector, moves boxes to the right by a share of their width.
        blank: of a recognizer, the class that is no character.
    """

    channels: int | None = None
    scores: int = 0
    move: Callable[[np.ndarray, float], np.ndarray] | None = None
    blank: int | None = None


Mistake = Callable[[np.ndarray, Layout, Rng], np.ndarray]


def constant(values: np.ndarray, _layout: Layout, _rng: Rng) -> np.ndarray:
    """The mean answer, whatever is asked."""
    return np.broadcast_to(values.mean(axis=0), values.shape)


def dead(values: np.ndarray, _layout: Layout, _rng: Rng) -> np.ndarray:
    """Nothing but 0."""
    return np.zeros_like(values)


def inverted(values: np.ndarray, layout: Layout, _rng: Rng) -> np.ndarray:
    """High is low: of detectors, what is sure is not."""
    changed = values.copy()
    part = changed[..., layout.scores :]
    part[...] = part.min() + part.max() - part
    return changed


def halved(values: np.ndarray, layout: Layout, _rng: Rng) -> np.ndarray:
    """Scores half as high."""
    changed = values.copy()
    changed[..., layout.scores :] *= 0.5
    return changed


def swapped(values: np.ndarray, layout: Layout, _rng: Rng) -> np.ndarray:
    """Each channel says what the one before it should; of one class's detector, x and y do."""
    changed = values.copy()
    scores = changed[..., layout.scores :]
    if scores.shape[-1] > 2 or not layout.scores:
        scores[...] = np.roll(scores, 1, axis=-1)
    else:
        changed[..., :2] = values[..., 1::-1]
    return changed


def at_10_decibels(values: np.ndarray, _layout: Layout, rng: Rng) -> np.ndarray:
    """Noise of a tenth of the power of what varies in each channel."""
    return noisy(values, 10, rng)


def at_40_decibels(values: np.ndarray, _layout: Layout, rng: Rng) -> np.ndarray:
    """Noise of a ten thousandth of it, which is no mistake."""
    return noisy(values, 40, rng)


def of_other_samples(values: np.ndarray, _layout: Layout, _rng: Rng) -> np.ndarray:
    """Good answers, each to another sample."""
    return np.roll(values, 1 + len(values) // 3, axis=0)


def at_random(values: np.ndarray, _layout: Layout, rng: Rng) -> np.ndarray:
    """The right shapes, and noise of the mean and the spread that each channel has."""
    axes = tuple(range(values.ndim - 1))
    noise = rng.standard_normal(values.shape)
    wrong: np.ndarray = values.mean(axis=axes) + values.std(axis=axes) * noise
    return wrong


def never_chosen(values: np.ndarray, layout: Layout, _rng: Rng) -> np.ndarray:
    """The class that is chosen most often never is, what is no object or character not counted."""
    changed = values.copy()
    scores = changed[..., layout.scores :]
    chosen = scores[scores.max(axis=-1) > 0.25] if layout.scores else scores
    counts = np.bincount(chosen.argmax(axis=-1).ravel(), minlength=scores.shape[-1])
    if layout.blank is not None:
        counts[layout.blank] = 0
    # Scores of boxes have no less than 0, where they say that there is nothing.
    scores[..., counts.argmax()] = 0 if layout.scores else scores.min() - 1
    return changed


def shifted(values: np.ndarray, layout: Layout, _rng: Rng) -> np.ndarray:
    """Boxes a twentieth of their width to the right."""
    assert layout.move is not None
    return layout.move(values, 0.05)


def noisy(values: np.ndarray, decibels: float, rng: Rng) -> np.ndarray:
    """With noise so many dB below what varies over samples, channel by channel.

    Where in a picture a place of a grid lies varies over places, and says nothing.
    """
    spread = (values - values.mean(axis=0)).std(axis=tuple(range(values.ndim - 1)))
    wrong: np.ndarray = values + spread * 10 ** (-decibels / 20) * rng.standard_normal(values.shape)
    return wrong


_COMMON: Final = (constant, dead, inverted, of_other_samples, at_random)
_OF_NUMBERS: Final = (halved, at_10_decibels)


def fitting(layout: Layout, *, chooses: bool, are_names: bool) -> list[Mistake]:
    """The mistakes that an output of this layout can make.

    Args:
        layout: of the output.
        chooses: whether its channels are classes, one of which is the answer.
        are_names: whether it is that answer by itself, which has no scale and no noise.
    """
    return [
        *_COMMON,
        *(() if are_names else _OF_NUMBERS),
        *((swapped,) if layout.channels is not None else ()),
        *((never_chosen,) if chooses else ()),
        *((shifted,) if layout.move is not None else ()),
    ]
