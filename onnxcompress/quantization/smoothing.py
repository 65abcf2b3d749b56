"""Factors that move the outliers of a tensor into the weights that read it.

Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models", 2022 (arXiv 2211.10438), equation 4, for the form of the factors. The strength is
chosen here for each tensor, by the noise that int8 would leave in the outputs; where activations
have no outliers no strength helps, and the best factors are 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ACTIVATION_STEPS = 255
_WEIGHT_STEPS = 127

_STRENGTHS = tuple(tenths / 10 for tenths in range(11))


@dataclass
class ChannelStatistics:
    """What the channels of a tensor are like on the data; each float64 [channels].

    Attributes:
        low: the least value, at most 0.
        high: the largest value, at least 0.
        squares: sum of squares.
        count: rows seen.
    """

    low: np.ndarray
    high: np.ndarray
    squares: np.ndarray
    count: int = 0

    @classmethod
    def empty(cls, channels: int) -> ChannelStatistics:
        """Nothing seen yet."""
        return cls(np.zeros(channels), np.zeros(channels), np.zeros(channels))

    def add(self, rows: np.ndarray) -> None:
        """Counts float rows [n, channels]."""
        self.low = np.minimum(self.low, rows.min(axis=0, initial=0))
        self.high = np.maximum(self.high, rows.max(axis=0, initial=0))
        self.squares += np.square(rows, dtype=np.float64).sum(axis=0)
        self.count += len(rows)

    @property
    def largest(self) -> np.ndarray:
        """The largest magnitude."""
        largest: np.ndarray = np.maximum(-self.low, self.high)
        return largest


def smoothing_factors(inputs: np.ndarray, weights: np.ndarray, strength: float) -> np.ndarray:
    """What to divide each channel of a tensor by, and multiply the weights that read it with.

    s_j = max|x_j|^strength / max|w_j|^(1 - strength): with a half, both get the same range in each
    channel. Applied once more it gives 1.

    Args:
        inputs: float64 [channels], the largest magnitude of each channel on the data.
        weights: float64 [channels], the largest magnitude in all weights that read it.
        strength: from 0, nothing but the weights' own ranges counts, to 1, all goes to the weights.

    Returns:
        float64 [channels]; 1 for a channel that is zero on one side.
    """
    live = (inputs > 0) & (weights > 0)
    wide, heavy = (np.where(live, each, 1).astype(np.float64) for each in (inputs, weights))
    factors: np.ndarray = wide**strength / heavy ** (1 - strength)
    return np.where(live, factors, 1.0)


def int8_noise(
    seen: ChannelStatistics,
    weights: Sequence[np.ndarray],
    factors: np.ndarray,
    *,
    per_channel: bool = True,
) -> float:
    """The expected squared error of the products, summed over their outputs.

    A value rounded to steps of d is off by d^2 / 12 in the mean of squares, but by no more than its
    own square. Activations have one step for all channels, weights one for each output, or one for
    all.

    Args:
        seen: of the tensor.
        weights: float [outputs, channels] of each product that reads it.
        factors: float64 [channels]; the tensor is divided by them.
        per_channel: whether each output of a weight has a step of its own.
    """
    width = float(np.max(seen.high / factors) - np.min(seen.low / factors))
    power = seen.squares / max(seen.count, 1) / factors**2
    activation = np.minimum((width / _ACTIVATION_STEPS) ** 2 / 12, power)
    noise = 0.0
    for weight in weights:
        squares = np.square(weight * factors)
        steps = squares.max(axis=1 if per_channel else None, keepdims=True, initial=0)
        steps = steps / _WEIGHT_STEPS**2
        noise += float(squares.sum(axis=0) @ activation)
        noise += float(np.minimum(steps / 12, squares).sum(axis=0) @ power)
    return noise


def best_factors(
    seen: ChannelStatistics,
    weights: Sequence[np.ndarray],
    *,
    strength: float | None,
    least_gain: float,
    per_channel: bool = True,
) -> np.ndarray | str:
    """Factors with which int8 leaves clearly less noise, or why there are none.

    Args:
        seen: of the tensor.
        weights: float [outputs, channels] of each product that reads it.
        strength: as in `smoothing_factors`; None for whichever leaves the least noise.
        least_gain: the share of the noise, below 1, that must go.
        per_channel: see `int8_noise`.
    """
    heaviest = np.max([np.abs(each).max(axis=0, initial=0) for each in weights], axis=0)
    tried = [
        smoothing_factors(seen.largest, heaviest, each)
        for each in (_STRENGTHS if strength is None else (strength,))
    ]
    noise = [int8_noise(seen, weights, each, per_channel=per_channel) for each in tried]
    best = int(np.argmin(noise))
    ones = np.ones(len(heaviest))
    before = int8_noise(seen, weights, ones, per_channel=per_channel)
    if noise[best] > (1 - least_gain) * before:
        return f"int8 would leave {noise[best] / before if before else 1:.0%} of the noise"
    return tried[best]
