"""Seeded resampling, and the plain percentile interval that times are given with.

Drops of accuracy have skewed samples and rare losses, which this interval covers too seldom: theirs
are in `intervals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 1000
# Draws held at once; bounds memory to a few times 8 bytes of this.
_BLOCK: Final = 1 << 21


def resample_indices(
    samples: int, resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Draws `samples` of `samples` with replacement, `resamples` times.

    Yields:
        Blocks of shape (some resamples, samples).
    """
    block = max(1, _BLOCK // samples)
    for begin in range(0, resamples, block):
        yield rng.integers(0, samples, (min(block, resamples - begin), samples))


def resample_weights(
    samples: int, resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """The same draws, as how often each sample was drawn.

    Yields:
        Blocks of shape (some resamples, samples); each row sums to `samples`.
    """
    for drawn in resample_indices(samples, resamples, rng):
        rows = len(drawn)
        flat = (drawn + samples * np.arange(rows)[:, None]).ravel()
        yield np.bincount(flat, minlength=rows * samples).reshape(rows, samples)


def median_interval(
    values: NDArray[np.float64], seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """A 95 % interval of the median of independent measurements; infinite ones are fine."""
    rng = np.random.default_rng(seed)
    medians = [
        np.median(values[drawn], axis=1) for drawn in resample_indices(len(values), resamples, rng)
    ]
    tail = (1 - CONFIDENCE) / 2
    # An order statistic: interpolating between two infinities would give NaN.
    low, high = np.quantile(np.concatenate(medians), [tail, 1 - tail], method="nearest")
    return float(low), float(high)
