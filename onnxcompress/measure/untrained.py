"""Are the weights as they were drawn? Then no figure of accuracy says anything."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.ir.model import Constant, Model

_FEWEST: Final = 32
"""Rows and columns of a weight that can be told from noise."""

_MOST_ELEMENTS: Final = 1 << 20
"""Read of each weight, at most."""

_MOST_WEIGHTS: Final = 12
"""The largest ones tell enough."""

_SHARE: Final = 0.9
_SPREAD: Final = (0.4, 1.8)
"""Of the rows' powers, as a multiple of what chance gives; training leaves 10 and more."""

_TAILS: Final = (1.6, 3.3)
"""Kurtosis: 1.8 for a uniform distribution, 3 for a normal one; training leaves longer tails."""


def untrained_notes(model: Model) -> tuple[str, ...]:
    """Says so where nearly all large weights look like random numbers."""
    weights = [each for each in model.constants() if _is_large(each)]
    weights = sorted(weights, key=lambda each: -each.size)[:_MOST_WEIGHTS]
    total = sum(each.size for each in weights)
    if not total:
        return ()
    drawn = sum(each.size for each in weights if is_noise(_rows(each)))
    if drawn < _SHARE * total:
        return ()
    return (
        "the weights look like random numbers, as before any training: what is measured here says "
        "little about the trained model, which compresses otherwise",
    )


def is_noise(rows: NDArray[np.float64]) -> bool:
    """Whether a matrix looks drawn from one normal or uniform distribution, all values alike.

    Trained rows and columns differ in power by much more than chance.
    """
    values = rows - rows.mean()
    power = float(np.square(values).mean())
    if not np.isfinite(power) or power == 0:
        return False
    kurtosis = float(np.mean(values**4)) / power**2
    if not _TAILS[0] <= kurtosis <= _TAILS[1]:
        return False
    return all(_spread(values, axis, power, kurtosis) for axis in (0, 1))


def _spread(values: NDArray[np.float64], axis: int, power: float, kurtosis: float) -> bool:
    """Whether the powers along an axis vary as those of so many independent values do."""
    powers = np.square(values).mean(axis=axis)
    by_chance = (kurtosis - 1) * power**2 / values.shape[axis]
    return bool(_SPREAD[0] <= float(powers.var()) / by_chance <= _SPREAD[1])


def _is_large(constant: Constant) -> bool:
    if len(constant.shape) < 2 or constant.dtype not in (np.float32, np.float16):
        return False
    rows = constant.shape[0]
    return rows >= _FEWEST and constant.size // rows >= _FEWEST


def _rows(constant: Constant) -> NDArray[np.float64]:
    values = constant.values
    most = max(_FEWEST, _MOST_ELEMENTS // (constant.size // constant.shape[0]))
    return values[:most].reshape(min(most, len(values)), -1).astype(np.float64)
