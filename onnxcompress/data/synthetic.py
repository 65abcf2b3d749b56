"""Random feeds for a model that came without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from onnxcompress.data.casting import Kind, kind_of
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.parts import ArraysPart, WholePart
from onnxcompress.errors import DataError

if TYPE_CHECKING:
    from onnxcompress.runtime.session import TensorSignature

DEFAULT_SIZE: Final = 16
# Indices stay below the size of the smallest table that an input of such a name looks up.
_LIMITS: Final[Mapping[str, int]] = {"mask": 2, "type": 2, "segment": 2}
_DEFAULT_LIMIT: Final = 8


def synthetic_dataset(
    signature: Sequence[TensorSignature],
    samples: int,
    seed: int,
    *,
    size: int = DEFAULT_SIZE,
    sizes: Mapping[str, int] | None = None,
) -> Dataset:
    """Random samples made from nothing but the model's inputs.

    They show that a model runs and how fast, and that a rewrite gives equal outputs on noise. They
    prove little about accuracy: ranges found on them are not the ranges of real data.

    Floats are drawn from a standard normal distribution; integers from 0 and 1 for names that
    contain mask, type or segment, else from 0..7; a mask always starts with 1. Each symbol is one
    number wherever it stands, sums of symbols ("past + 1") included, and the first axis is samples.
    Where the inputs do not share one batch axis, every sample is a whole feed of batch size 1.

    Args:
        signature: the model's inputs.
        samples: how many to make, at least 1.
        seed: of the random numbers.
        size: for every axis without a fixed number.
        sizes: for the symbols named, instead of `size`.

    Raises:
        DataError: an input is neither numbers, truth values nor text.
    """
    if samples < 1:
        raise ValueError(f"at least one sample is needed, not {samples}")
    symbols = {**(sizes or {})}
    rng = np.random.default_rng(seed)
    if _shares_batch_axis(signature):
        arrays = {}
        for tensor in signature:
            shape = [_size(axis, symbols, size) for axis in tensor.shape]
            arrays[tensor.name] = _random(tensor, [samples, *shape[1:]] if shape else [], rng)
        return Dataset([ArraysPart(arrays, signature, "random data")], signature)
    firsts = {t.shape[0] for t in signature if t.shape and isinstance(t.shape[0], str)}
    symbols = {**dict.fromkeys(firsts, 1), **symbols}
    parts = [
        WholePart(
            {
                tensor.name: _random(tensor, _feed_shape(tensor, symbols, size), rng)
                for tensor in signature
            },
            f"random data (sample {index})",
        )
        for index in range(samples)
    ]
    return Dataset(parts, signature)


def _shares_batch_axis(signature: Sequence[TensorSignature]) -> bool:
    """Whether the first axis of all inputs counts samples, as far as shapes can tell."""
    firsts = {tensor.shape[0] for tensor in signature if tensor.shape}
    others = {axis for tensor in signature for axis in tensor.shape[1:] if isinstance(axis, str)}
    return len(firsts) == 1 and not firsts & others


def _feed_shape(tensor: TensorSignature, symbols: Mapping[str, int], size: int) -> list[int]:
    shape = [_size(axis, symbols, size) for axis in tensor.shape]
    if tensor.shape and tensor.shape[0] is None:
        shape[0] = 1
    return shape


def _size(axis: int | str | None, symbols: Mapping[str, int], size: int) -> int:
    if axis is None:
        return size
    if isinstance(axis, int):
        return axis
    if axis in symbols:
        return symbols[axis]
    terms = [term.strip() for term in axis.split("+")]
    return sum(int(term) if term.isdecimal() else symbols.get(term, size) for term in terms)


def _random(tensor: TensorSignature, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    kind = kind_of(tensor.dtype)
    if kind is Kind.FLOAT:
        return np.asarray(rng.standard_normal(shape)).astype(tensor.dtype)
    if kind is Kind.BOOL:
        return _mask(np.asarray(rng.integers(0, 2, shape)), tensor.name).astype(tensor.dtype)
    if kind is Kind.INTEGER:
        limits = (limit for part, limit in _LIMITS.items() if part in tensor.name.lower())
        values = np.asarray(rng.integers(0, next(limits, _DEFAULT_LIMIT), shape))
        return _mask(values, tensor.name).astype(tensor.dtype)
    if kind is Kind.TEXT and tensor.dtype == object:
        return np.full(shape, "text", dtype=object)
    raise DataError(f"input {tensor.name!r} is {tensor.dtype}, for which no random data are made")


def _mask(values: np.ndarray, name: str) -> np.ndarray:
    """A mask that hides everything makes models divide by zero."""
    if "mask" in name.lower() and values.ndim:
        values[..., 0] = 1
    return values
