"""Scales and zero points with which a weight loses least.

The range of a weight, as `qparams` takes it, suits its largest value. With 2 to 4 bits most values
gain more from a finer grid than the few at the ends lose by saturating. Here a grid is shrunk and
shifted in small steps, and of those the one with the least squared error is taken; then its scale
is the least-squares one for the integers it gives. Each group of weights is searched for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxcompress.quantization.granularity import (
    Granularity,
    PerBlock,
    PerChannel,
    PerTensor,
    reduce_sum,
    spread,
)
from onnxcompress.quantization.qparams import (
    MIN_SCALE,
    QParams,
    asymmetric_qparams,
    symmetric_qparams,
)

_AT_ONCE = 1 << 16
"""Elements searched together: what a core's cache holds of them."""

_REFINEMENTS = 3
"""Rounds of least squares after the search."""


@dataclass(frozen=True)
class _Grids:
    """What is tried at one width.

    Attributes:
        least: the smallest share of the range that is still covered.
        steps: shares tried, from `least` to 1.
        shifts: added to the zero point, where there is one.
    """

    least: float
    steps: int
    shifts: tuple[int, ...]

    @property
    def shares(self) -> list[float]:
        return [float(share) for share in np.linspace(1.0, self.least, self.steps)]


_GRIDS = {
    2: _Grids(0.2, 25, (0, -1, 1)),
    4: _Grids(0.4, 19, (0, -1, 1)),
    8: _Grids(0.8, 9, (0,)),
    16: _Grids(1.0, 1, (0,)),
}


def fitted_qparams(
    values: np.ndarray,
    granularity: Granularity,
    bits: int = 8,
    *,
    symmetric: bool = True,
    importance: np.ndarray | None = None,
) -> QParams:
    """Qparams for a weight with a small squared error.

    Args:
        values: finite float weight of any shape.
        granularity: what shares a scale.
        bits: 2, 4, 8 or 16.
        symmetric: signed integers and zero points of zero; else unsigned ones, zero exact.
        importance: float, at least 0, in the shape of `values`: what the squared error of each
            weight is multiplied with, such as the mean square of the input that it meets; None
            for 1.

    Returns:
        As `symmetric_qparams` and `asymmetric_qparams`; never with a larger error. Symmetric
        integers may use the level that lies below zero only.
    """
    start = (symmetric_qparams if symmetric else asymmetric_qparams)(values, granularity, bits)
    axis = _free_axis(values, granularity)
    grids = _GRIDS[bits]
    if axis is None:
        return _fitted(values, start, grids, importance, symmetric=symmetric)
    parts = [
        _fitted(
            values[piece],
            QParams(start.scale[taken], start.zero_point[taken], granularity),
            grids,
            None if importance is None else importance[piece],
            symmetric=symmetric,
        )
        for piece, taken in _pieces(values, granularity, axis)
    ]
    along = 0 if start.scale.ndim == 1 else axis
    scale = np.concatenate([part.scale for part in parts], axis=along)
    zero_point = np.concatenate([part.zero_point for part in parts], axis=along)
    return QParams(scale, zero_point, granularity)


def _fitted(
    values: np.ndarray,
    start: QParams,
    grids: _Grids,
    importance: np.ndarray | None,
    *,
    symmetric: bool,
) -> QParams:
    """The best grid for each group; scales are told as multiples of those of `start`."""
    shape, granularity = values.shape, start.granularity
    given = values / spread(start.scale, shape, granularity)
    lowest, highest = start.limits
    zero_point = start.zero_point.astype(np.float32)

    def levels(share: np.ndarray, zero: np.ndarray) -> np.ndarray:
        """Whole numbers, zero at 0."""
        zero = spread(zero, shape, granularity)
        scaled = given / spread(share, shape, granularity)
        return np.asarray(np.clip(np.rint(scaled), lowest - zero, highest - zero))

    def errors(found: np.ndarray, share: np.ndarray) -> np.ndarray:
        gaps = np.square(found * spread(share, shape, granularity) - given)
        return reduce_sum(gaps if importance is None else gaps * importance, granularity)

    share, zero = np.ones_like(start.scale), zero_point
    least = errors(levels(share, zero), share)
    for shift in grids.shifts if not symmetric else (0,):
        shifted = np.clip(zero_point + np.float32(shift), lowest, highest)
        for factor in grids.shares:
            tried = np.full_like(share, factor)
            found = errors(levels(tried, shifted), tried)
            better = found < least
            share, zero = np.where(better, tried, share), np.where(better, shifted, zero)
            least = np.minimum(found, least)
    for _ in range(_REFINEMENTS):
        found = levels(share, zero)
        weighted = found if importance is None else found * importance
        square = reduce_sum(weighted * found, granularity)
        product = reduce_sum(weighted * given, granularity)
        fits = (square > 0) & (product > 0)
        tried = np.where(fits, product / np.where(fits, square, 1), share).astype(np.float32)
        errored = errors(levels(tried, zero), tried)
        better = errored < least
        share, least = np.where(better, tried, share), np.minimum(errored, least)
    scale = np.maximum(start.scale * share, MIN_SCALE).astype(np.float32)
    return QParams(scale, zero.astype(start.zero_point.dtype), granularity)


def _free_axis(values: np.ndarray, granularity: Granularity) -> int | None:
    """An axis along which nothing shares a scale; None if there is none."""
    match granularity:
        case PerTensor():
            return None
        case PerChannel(axis):
            return axis % values.ndim
        case PerBlock(axis, _):
            others = [each for each in range(values.ndim) if each != axis % values.ndim]
            return max(others, key=lambda each: values.shape[each], default=None)


def _pieces(
    values: np.ndarray, granularity: Granularity, axis: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Parts of a weight along a free axis, and the same of its scales."""
    length = values.shape[axis]
    step = max(_AT_ONCE * length // max(values.size, 1), 1)
    before = (slice(None),) * axis
    for first in range(0, length, step):
        part = slice(first, first + step)
        yield (*before, part), (part,) if isinstance(granularity, PerChannel) else (*before, part)
