"""Random feeds for a model that came without data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from onnxcompress.data.casting import Kind, kind_of
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.given_shapes import Shapes, given_symbols, shares_batch_axis, sum_of
from onnxcompress.data.memory import require_memory
from onnxcompress.data.parts import ArraysPart, WholePart
from onnxcompress.errors import DataError

if TYPE_CHECKING:
    from onnxcompress.runtime.session import TensorSignature

DEFAULT_SIZE: Final = 16
# Indices stay below the size of the smallest table that an input of such a name looks up.
_LIMITS: Final[Mapping[str, int]] = {"mask": 2, "type": 2, "segment": 2}
_DEFAULT_LIMIT: Final = 8
_PAST: Final = ("past", "cache")
"""What the names of inputs say that hold what a decoder has read before."""


def synthetic_dataset(
    signature: Sequence[TensorSignature],
    samples: int,
    seed: int,
    *,
    size: int = DEFAULT_SIZE,
    sizes: Mapping[str, int] | None = None,
    shapes: Shapes | None = None,
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
        shapes: of the inputs named; what they say of a symbol holds for all inputs.

    Raises:
        DataError: an input is neither numbers, truth values nor text, a shape does not fit the
            model, or memory cannot hold the samples.
    """
    if samples < 1:
        raise ValueError(f"at least one sample is needed, not {samples}")
    shapes = shapes or {}
    symbols = {**(sizes or {}), **given_symbols(shapes, signature)}
    rng = np.random.default_rng(seed)
    if shares_batch_axis(signature):
        arrays = {}
        for tensor in signature:
            shape = shapes.get(tensor.name) or [_size(axis, symbols, size) for axis in tensor.shape]
            wanted = [samples, *shape[1:]] if shape else []
            _require(tensor, math.prod(wanted))
            arrays[tensor.name] = _random(tensor, wanted, rng)
        return Dataset([ArraysPart(arrays, signature, "random data")], signature)
    firsts = {t.shape[0] for t in signature if t.shape and isinstance(t.shape[0], str)}
    symbols = {**dict.fromkeys(firsts, 1), **symbols}
    feed = {
        tensor.name: shapes.get(tensor.name) or _feed_shape(tensor, symbols, size)
        for tensor in signature
    }
    for tensor in signature:
        _require(tensor, samples * math.prod(feed[tensor.name]))
    parts = [
        WholePart(
            {tensor.name: _random(tensor, feed[tensor.name], rng) for tensor in signature},
            f"random data (sample {index})",
        )
        for index in range(samples)
    ]
    return Dataset(parts, signature)


def guessed_axes(
    signature: Sequence[TensorSignature], shapes: Shapes, size: int
) -> dict[str, list[tuple[str, int]]]:
    """The axes whose size neither the model nor `shapes` says, by input: what each is, its size.

    The first axis is none of them where it counts samples.
    """
    symbols = given_symbols(shapes, signature)
    firsts = {t.shape[0] for t in signature if t.shape and isinstance(t.shape[0], str)}
    known = {**dict.fromkeys(firsts, 1), **symbols}
    guessed = {}
    for tensor in signature:
        axes = [] if tensor.name in shapes else list(enumerate(tensor.shape))[1:]
        guessed[tensor.name] = [
            (axis if isinstance(axis, str) else f"axis {at}", _size(axis, known, size))
            for at, axis in axes
            if axis is None
            or (isinstance(axis, str) and axis not in known and sum_of(axis, known) is None)
        ]
    return {name: axes for name, axes in guessed.items() if axes}


def mask_shapes(signature: Sequence[TensorSignature], shapes: Shapes, size: int) -> Shapes:
    """Shapes of masks over what a decoder has cached and what it reads now.

    Exporters give the axis of such a mask a name of its own, which says nothing of its length: it
    is that of the past and of the sequence together. Masks whose shape is given are left out, and
    so are all where the inputs hold no past.
    """
    symbols = given_symbols(shapes, signature)
    firsts = {t.shape[0] for t in signature if t.shape and isinstance(t.shape[0], str)}
    symbols = {**dict.fromkeys(firsts, 1), **symbols}
    masks = [t for t in signature if "mask" in t.name.lower() and len(t.shape) > 1]
    others = [t for t in signature if t not in masks]
    pasts = [t for t in others if any(word in t.name.lower() for word in _PAST)]
    past = _free_length(pasts, shapes, symbols, size)
    reads = [t for t in others if t not in pasts and len(t.shape) > 1]
    if past is None or not reads:
        return {}
    now = (shapes.get(reads[0].name) or _feed_shape(reads[0], symbols, size))[1]
    named = {axis for tensor in others for axis in tensor.shape}
    found = {}
    for mask in masks:
        last = mask.shape[-1]
        if mask.name in shapes or isinstance(last, int) or (last is not None and last in named):
            continue
        found[mask.name] = (*_feed_shape(mask, symbols, size)[:-1], past + now)
    return found


def _free_length(
    pasts: Sequence[TensorSignature], shapes: Shapes, symbols: Mapping[str, int], size: int
) -> int | None:
    """The length of the first free axis of the past after that of samples; None without any."""
    for tensor in pasts:
        for at, axis in enumerate(tensor.shape):
            if at and not isinstance(axis, int):
                return (shapes.get(tensor.name) or _feed_shape(tensor, symbols, size))[at]
    return None


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


def _require(tensor: TensorSignature, elements: int) -> None:
    """Refuses what does not fit in memory; random numbers are made in 8 bytes each."""
    needed = elements * (8 + tensor.dtype.itemsize)
    require_memory(needed, f"made-up input {tensor.name!r}", "give smaller ones (--shapes)")


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
