"""How a tensor's distribution becomes the range that its integers cover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from onnxcompress.quantization.histogram import Histogram

_LEVELS = 256  # what a range is divided into when its error is estimated: 8 bits
_SHRINKS = np.linspace(1.0, 0.2, 81)


@dataclass(frozen=True)
class Range:
    """The interval of real values that quantization keeps; the rest saturates."""

    low: float
    high: float


def min_max(histogram: Histogram) -> Range:
    """Everything seen."""
    return Range(histogram.minimum, histogram.maximum)


def percentile(histogram: Histogram, kept: float = 0.9999) -> Range:
    """The middle `kept` of the values: half of what is cut goes at each end."""
    cut = (1 - kept) / 2
    return Range(histogram.quantile(cut), histogram.quantile(1 - cut))


def mean_squared_error(histogram: Histogram) -> Range:
    """The range whose rounding and saturation errors have the smallest sum of squares."""
    return _best_shrink(histogram, _squared_error)


def entropy(histogram: Histogram) -> Range:
    """The range whose quantized distribution diverges least from the original.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017 (Kullback-Leibler divergence), here
    for ranges that need not be symmetric.
    """
    return _best_shrink(histogram, _divergence)


class Observer(Enum):
    """The ways to choose a range, by the names recipes use."""

    MIN_MAX = "min-max"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"
    OUTPUT_ERROR = "output-error"
    """Of those above, the one with which the nodes that read the tensor lose least.

    That takes the nodes, see `qdq.range_choice`; a distribution alone is judged as by `MSE`.
    """

    def range(self, histogram: Histogram) -> Range:
        """The range this observer chooses for a distribution."""
        return _CHOICES[self](histogram)


_CHOICES: dict[Observer, Callable[[Histogram], Range]] = {
    Observer.MIN_MAX: min_max,
    Observer.PERCENTILE: percentile,
    Observer.ENTROPY: entropy,
    Observer.MSE: mean_squared_error,
    Observer.OUTPUT_ERROR: mean_squared_error,
}


def _best_shrink(
    histogram: Histogram, cost: Callable[[np.ndarray, np.ndarray, float, float], float]
) -> Range:
    """Shrinks the upper end, then the lower, to where `cost` is least."""
    counts, centers = histogram.counts, histogram.centers
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    if high > 0:
        high = float(min(_SHRINKS * high, key=lambda end: cost(counts, centers, low, end)))
    if low < 0:
        low = float(min(_SHRINKS * low, key=lambda end: cost(counts, centers, end, high)))
    return Range(low, high)


def _squared_error(counts: np.ndarray, centers: np.ndarray, low: float, high: float) -> float:
    scale = (high - low) / (_LEVELS - 1) or 1.0
    zero = round(-low / scale)
    levels = np.clip(np.rint(centers / scale) + zero, 0, _LEVELS - 1)
    return float(counts @ np.square((levels - zero) * scale - centers))


def _divergence(counts: np.ndarray, centers: np.ndarray, low: float, high: float) -> float:
    inside = (centers >= low) & (centers <= high)
    kept = counts[inside].astype(np.float64)
    if kept.size < _LEVELS:  # fewer bins than levels: nothing is lost inside, all outside is
        return float(counts[~inside].sum()) / max(int(counts.sum()), 1)
    level = np.arange(kept.size) * _LEVELS // kept.size
    present = kept > 0
    mass = np.bincount(level, kept, _LEVELS)
    holders = np.bincount(level, present, _LEVELS)
    approximation = np.where(present, (mass / np.maximum(holders, 1))[level], 0.0)
    reference = kept.copy()
    positions = np.flatnonzero(inside)
    reference[0] += counts[: positions[0]].sum()
    reference[-1] += counts[positions[-1] + 1 :].sum()
    p = reference / reference.sum()
    q = np.maximum(approximation / max(approximation.sum(), 1.0), 1e-12)
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))
