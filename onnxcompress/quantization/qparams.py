"""Scales and zero points, and the integers they give.

`real = (integer - zero_point) * scale`, as QuantizeLinear and DequantizeLinear define it (ONNX
operators, opset 10 and later; 16 and 4 bits from opset 21, 2 bits from 25); rounding is to nearest,
ties to even.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from onnxcompress.quantization.granularity import (
    PER_TENSOR,
    Granularity,
    PerTensor,
    reduce_max_abs,
    reduce_range,
    spread,
)
from onnxcompress.quantization.observers import Range

MIN_SCALE = np.float32(np.finfo(np.float32).tiny)
"""The smallest scale ever used: below it float32 loses digits."""

SIGNED: dict[int, np.dtype] = {
    2: np.dtype(ml_dtypes.int2),
    4: np.dtype(ml_dtypes.int4),
    8: np.dtype(np.int8),
    16: np.dtype(np.int16),
}
"""The signed integer type by width."""

UNSIGNED: dict[int, np.dtype] = {
    2: np.dtype(ml_dtypes.uint2),
    4: np.dtype(ml_dtypes.uint4),
    8: np.dtype(np.uint8),
    16: np.dtype(np.uint16),
}
"""The unsigned integer type by width."""

_TYPE_LIMITS = {
    **{dtype: (-(1 << bits - 1), (1 << bits - 1) - 1) for bits, dtype in SIGNED.items()},
    **{dtype: (0, (1 << bits) - 1) for bits, dtype in UNSIGNED.items()},
}
_SYMMETRIC_LIMITS = {2: 1, 4: 7, 8: 127, 16: 32767}


@dataclass(frozen=True)
class QParams:
    """How real values and integers correspond.

    Attributes:
        scale: float32, > 0, shaped by the granularity.
        zero_point: shaped like the scale; its type is that of the integers.
        granularity: what shares a scale.
        word_length: bits that the integers use; None for all that their (signed) type has.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    granularity: Granularity = PER_TENSOR
    word_length: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer; what lies beyond saturates."""
        if self.word_length is None:
            return integer_limits(self.zero_point.dtype)
        half = 1 << (self.word_length - 1)
        return -half, half - 1

    def transposed(self) -> QParams:
        """Those of the transposed matrix, for the qparams of a matrix."""
        granularity = self.granularity
        if not isinstance(granularity, PerTensor):
            granularity = replace(granularity, axis=1 - granularity.axis)
        return replace(
            self, scale=self.scale.T, zero_point=self.zero_point.T, granularity=granularity
        )


def width(dtype: np.dtype) -> int:
    """Bits of a type in `SIGNED` or `UNSIGNED`."""
    low, high = integer_limits(dtype)
    return (high - low).bit_length()


def integer_limits(dtype: np.dtype) -> tuple[int, int]:
    """The smallest and the largest value of a type in `SIGNED` or `UNSIGNED`."""
    return _TYPE_LIMITS[dtype]


def activation_qparams(observed: Range, dtype: np.dtype) -> QParams:
    """Asymmetric qparams for an 8- or 16-bit activation; real zero is exact, all zeros get scale 1.

    Args:
        observed: the range to cover; widened to hold zero.
        dtype: a signed or unsigned numpy integer type.
    """
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    return _asymmetric(np.asarray(low), np.asarray(high), dtype, PER_TENSOR)


def asymmetric_qparams(values: np.ndarray, granularity: Granularity, bits: int = 8) -> QParams:
    """Unsigned qparams for a weight that cover its range and no more; zero is exact.

    Args:
        values: float weight of any shape.
        granularity: what shares a scale.
        bits: one of `UNSIGNED`.
    """
    low, high = reduce_range(values, granularity)
    return _asymmetric(low, high, UNSIGNED[bits], granularity)


def symmetric_qparams(values: np.ndarray, granularity: Granularity, bits: int = 8) -> QParams:
    """Signed qparams for a weight, zero points zero; a channel of zeros gets scale 1.

    Args:
        values: float weight of any shape.
        granularity: what shares a scale.
        bits: one of `SIGNED`. As many levels lie above zero as below.
    """
    largest = reduce_max_abs(values, granularity)
    least = np.maximum(largest / _SYMMETRIC_LIMITS[bits], MIN_SCALE)
    scale = np.where(largest > 0, least, 1).astype(np.float32)
    return QParams(scale, np.zeros(scale.shape, SIGNED[bits]), granularity)


def quantize(values: np.ndarray, qparams: QParams) -> np.ndarray:
    """The integers for `values`, saturated to the limits."""
    scale = spread(qparams.scale, values.shape, qparams.granularity)
    zero_point = spread(qparams.zero_point, values.shape, qparams.granularity)
    with np.errstate(over="ignore"):  # what overflows saturates
        levels = np.rint(values / scale) + zero_point.astype(np.float32)
    integers: np.ndarray = np.clip(levels, *qparams.limits).astype(qparams.zero_point.dtype)
    return integers


def dequantize(integers: np.ndarray, qparams: QParams) -> np.ndarray:
    """The real values (float32) that integers stand for."""
    scale = spread(qparams.scale, integers.shape, qparams.granularity)
    zero_point = spread(qparams.zero_point, integers.shape, qparams.granularity)
    values: np.ndarray = (integers.astype(np.float32) - zero_point.astype(np.float32)) * scale
    return values


def _asymmetric(
    low: np.ndarray, high: np.ndarray, dtype: np.dtype, granularity: Granularity
) -> QParams:
    """Qparams whose integers reach from `low` (<= 0) to `high` (>= 0)."""
    least, most = integer_limits(dtype)
    low, high = low.astype(np.float64), high.astype(np.float64)
    # A tensor that was zero throughout must not make a kernel divide by next to nothing.
    width = np.maximum((high - low) / (most - least), float(MIN_SCALE))
    scale = np.where(high > low, width, 1.0)
    zero_point = np.clip(np.rint(least - low / scale), least, most)
    return QParams(np.asarray(scale, np.float32), np.asarray(zero_point).astype(dtype), granularity)
