"""Sums of many resamples' weights at once, for metrics that are no sums over samples."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.measure.tally import Weights

# Whole weights and halves of them, either in 32 bits or in 64.
Floats = NDArray[np.float32] | NDArray[np.float64]

# Up to here, halves are exact in 32 bits.
_EXACT: Final = 1 << 23


def by_sample(weights: Weights, positions: int) -> Floats:
    """Weights as (samples, resamples), in the least floats that add them up exactly.

    Args:
        weights: shape (resamples, samples).
        positions: how many at most are added up.
    """
    return as_floats(weights.T, float(weights.max(initial=0)) * positions)


def as_floats(numbers: NDArray[np.int64], largest: float) -> Floats:
    """A copy in the least floats that hold all whole numbers and halves up to `largest`."""
    if largest < _EXACT:
        return np.array(numbers, dtype=np.float32, order="C")
    return np.array(numbers, dtype=np.float64, order="C")


def running_sums(rows: Floats) -> Floats:
    """As `np.cumsum(rows, axis=0)`, several times faster for rows of some length.

    Runs within blocks of rows first, all blocks at once, then from block to block.
    """
    count, columns = rows.shape
    if not count:
        return rows.copy()
    length = int(np.ceil(np.sqrt(count)))
    sums = np.zeros((-(-count // length), length, columns), dtype=rows.dtype)
    sums.reshape(-1, columns)[:count] = rows
    for place in range(1, length):
        sums[:, place] += sums[:, place - 1]
    for block in range(1, len(sums)):
        sums[block] += sums[block - 1, -1]
    return sums.reshape(-1, columns)[:count]


def sums_between(rows: Floats, begins: NDArray[np.int64]) -> Floats:
    """Sums of rows of weights from each of `begins` to the next, or to the end.

    Args:
        rows: shape (rows, resamples).
        begins: rising, from 0.
    """
    if len(begins) == len(rows):
        return rows
    # Differences of running sums, which are exact here, take a fraction of np.add.reduceat's time.
    ends = np.append(begins[1:], len(rows)) - 1
    sums: Floats = running_sums(rows)[ends]
    sums[1:] -= sums[:-1].copy()
    return sums
