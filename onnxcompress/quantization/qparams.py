"""Scales and zero points, and the integers they give.

`real = (integer - zero_point) * scale`, as QuantizeLinear and DequantizeLinear define it (ONNX
operators, opset 10 and later); rounding is to nearest, ties to even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcompress.quantization.granularity import (
    PER_TENSOR,
    Granularity,
    reduce_max_abs,
    spread,
)
from onnxcompress.quantization.observers import Range

MIN_SCALE = np.float32(np.finfo(np.float32).tiny)
"""The smallest scale ever used: below it float32 loses digits."""


@dataclass(frozen=True)
class QParams:
    """Scale (float32, > 0) and zero point (the integer type itself), shaped by the granularity."""

    scale: np.ndarray
    zero_point: np.ndarray
    granularity: Granularity = PER_TENSOR


def activation_qparams(observed: Range, dtype: np.dtype) -> QParams:
    """Asymmetric qparams for an 8- or 16-bit activation; real zero is exact, all zeros get scale 1.

    Args:
        observed: the range to cover; widened to hold zero.
        dtype: a signed or unsigned numpy integer type.
    """
    info = np.iinfo(dtype)
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    # A tensor that was zero throughout must not make a kernel divide by next to nothing.
    scale = max((high - low) / (info.max - info.min), float(MIN_SCALE)) if high > low else 1.0
    zero_point = int(np.clip(round(info.min - low / scale), info.min, info.max))
    return QParams(np.asarray(scale, np.float32), np.array(zero_point, dtype))


def symmetric_qparams(values: np.ndarray, granularity: Granularity, bits: int = 8) -> QParams:
    """Symmetric int8 qparams for a weight; a channel of zeros gets scale 1.

    Args:
        values: float weight of any shape.
        granularity: what shares a scale.
        bits: 8 uses -127..127; 7 uses -64..64, with which two products fit an int16 accumulator.
    """
    limit = {8: 127, 7: 64}[bits]
    largest = reduce_max_abs(values, granularity)
    scale = np.where(largest > 0, np.maximum(largest / limit, MIN_SCALE), 1).astype(np.float32)
    return QParams(scale, np.zeros(scale.shape, np.int8), granularity)


def quantize(values: np.ndarray, qparams: QParams) -> np.ndarray:
    """The integers for `values`, saturated to the zero point's type."""
    info = np.iinfo(qparams.zero_point.dtype)
    scale = spread(qparams.scale, values.shape, qparams.granularity)
    zero_point = spread(qparams.zero_point, values.shape, qparams.granularity)
    with np.errstate(over="ignore"):  # what overflows saturates
        levels = np.rint(values / scale) + zero_point
    integers: np.ndarray = np.clip(levels, info.min, info.max).astype(qparams.zero_point.dtype)
    return integers


def dequantize(integers: np.ndarray, qparams: QParams) -> np.ndarray:
    """The real values (float32) that integers stand for."""
    scale = spread(qparams.scale, integers.shape, qparams.granularity)
    zero_point = spread(qparams.zero_point, integers.shape, qparams.granularity)
    values: np.ndarray = (integers.astype(np.float32) - zero_point.astype(np.float32)) * scale
    return values
