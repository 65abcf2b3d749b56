"""Outputs that are no plain numbers: text, sequences and maps, as onnxruntime hands them out."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from onnxcompress.data.casting import is_float

_COMPARED: Final = (str, bytes, int, float, complex, np.generic, type(None))
"""What can be compared by value, beside arrays, sequences and maps of it."""


def same_value(one: Any, other: Any) -> bool:
    """Whether two outputs are equal bit by bit; text, sequences and maps by what they hold.

    Objects that have no value to compare, as opaque handles, count as equal if they are alike.
    """
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype != object:
            return one.tobytes() == other.tobytes()
        return all(same_value(*pair) for pair in zip(one.flat, other.flat, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, float) and isinstance(other, float) and np.isnan(one):
        return bool(np.isnan(other))
    if isinstance(one, _COMPARED) or isinstance(other, _COMPARED):
        return bool(one == other)
    return type(one) is type(other)


def holds_nan(value: Any) -> bool:
    """Whether a float in an output is NaN, in the sequences and maps of it too."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return any(map(holds_nan, value.flat))
        return is_float(value.dtype) and bool(np.isnan(value).any())
    if isinstance(value, dict):
        return any(map(holds_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_nan, value))
    return isinstance(value, float) and bool(np.isnan(value))


def rows_of(array: np.ndarray) -> list[np.ndarray]:
    """What an array holds along its first axis; a single object as an array of rank 0."""
    return [array[at, ...] for at in range(len(array))]


def in_one_array(sequence: np.ndarray, samples: int) -> tuple[np.ndarray, bool]:
    """The tensors of a sequence side by side, as they are judged and shown to metrics.

    Args:
        sequence: an array of objects, each a tensor.
        samples: how many were fed at once.

    Returns:
        An array, and whether its first axis is samples: so it is where each tensor has a row for
        every sample, or where there is one tensor, of one shape, for every sample.
    """
    tensors = [np.asarray(each) for each in sequence]
    if all(each.ndim and len(each) == samples for each in tensors):
        return np.concatenate([each.reshape(samples, -1) for each in tensors], axis=1), True
    if len(tensors) == samples and len({each.shape for each in tensors}) == 1:
        return np.stack(tensors), True
    return np.concatenate([each.ravel() for each in tensors]), False


def is_sequence(array: np.ndarray) -> bool:
    """Whether an output is a sequence of tensors, not of maps or of texts."""
    return (
        array.dtype == object
        and array.ndim == 1
        and bool(array.size)
        and all(isinstance(each, np.ndarray) for each in array)
    )
