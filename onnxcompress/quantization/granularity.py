"""How many elements share one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor."""


@dataclass(frozen=True)
class PerChannel:
    """One scale for each index along `axis`."""

    axis: int


@dataclass(frozen=True)
class PerBlock:
    """One scale for each run of `block_size` elements along `axis`; the last may be shorter."""

    axis: int
    block_size: int


Granularity = PerTensor | PerChannel | PerBlock

PER_TENSOR = PerTensor()
"""The only `PerTensor` there needs to be."""


def reduce_range(values: np.ndarray, granularity: Granularity) -> tuple[np.ndarray, np.ndarray]:
    """The interval around zero that each scale has to cover.

    Returns:
        Two of float32, at most zero and at least zero: scalar for `PerTensor`; [n] for
        `PerChannel`; the shape of `values` with `axis` divided by the block size, rounded up, for
        `PerBlock`.
    """
    return _reduce(np.minimum, values, granularity), _reduce(np.maximum, values, granularity)


def reduce_max_abs(values: np.ndarray, granularity: Granularity) -> np.ndarray:
    """The largest magnitude that each scale has to cover; shaped as by `reduce_range`."""
    low, high = reduce_range(values, granularity)
    return np.asarray(np.maximum(-low, high))


def reduce_sum(values: np.ndarray, granularity: Granularity) -> np.ndarray:
    """The sum over what shares a scale, float32; shaped as by `reduce_range`."""
    return _reduce(np.add, values, granularity)


def _reduce(operation: np.ufunc, values: np.ndarray, granularity: Granularity) -> np.ndarray:
    """An extreme or the sum of zero and of what shares a scale."""
    match granularity:
        case PerTensor():
            return np.asarray(operation.reduce(values, axis=None, initial=0.0), np.float32)
        case PerChannel(axis):
            others = tuple(a for a in range(values.ndim) if a != axis % values.ndim)
            return np.asarray(operation.reduce(values, axis=others, initial=0.0), np.float32)
        case PerBlock(axis, block_size):
            starts = np.arange(0, values.shape[axis], block_size)
            found = operation(operation.reduceat(values, starts, axis=axis), 0)
            return np.asarray(found, np.float32)


def spread(parameters: np.ndarray, shape: tuple[int, ...], granularity: Granularity) -> np.ndarray:
    """Brings scales or zero points to a shape that broadcasts with the tensor they belong to."""
    match granularity:
        case PerTensor():
            return parameters
        case PerChannel(axis):
            return parameters.reshape(
                [-1 if a == axis % len(shape) else 1 for a in range(len(shape))]
            )
        case PerBlock(axis, block_size):
            repeated = np.repeat(parameters, block_size, axis=axis)
            return np.take(repeated, np.arange(shape[axis]), axis=axis)
