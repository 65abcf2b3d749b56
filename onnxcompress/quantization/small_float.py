"""Weights in floats of 16 and 8 bits.

Source: IEEE 754 binary16; bfloat16; Micikevicius et al., "FP8 Formats for Deep Learning", 2022
(e4m3fn: no infinity, largest 448).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnxcompress.ir import elements
from onnxcompress.quantization.granularity import PerChannel, reduce_max_abs, spread
from onnxcompress.quantization.qparams import MIN_SCALE

FLOAT16 = np.dtype(np.float16)
BFLOAT16 = elements.dtype_of(TensorProto.BFLOAT16)
FLOAT8 = elements.dtype_of(TensorProto.FLOAT8E4M3FN)

_SCALED = {FLOAT8: np.float32(448)}
"""Types of so little range that each output channel needs a scale, with their largest value."""


@dataclass(frozen=True)
class SmallFloats:
    """A weight as small floats, times a scale if it has one.

    Attributes:
        values: in the small type.
        scale: float32, broadcasts with `values`; None for 1.
    """

    values: np.ndarray
    scale: np.ndarray | None

    def widened(self) -> np.ndarray:
        """The float32 weight that these stand for."""
        wide = self.values.astype(np.float32)
        return wide if self.scale is None else wide * self.scale


def narrow(values: np.ndarray, dtype: np.dtype, axis: int) -> SmallFloats:
    """Rounds a weight to nearest, ties to even.

    Args:
        values: finite float32.
        dtype: `FLOAT16`, `BFLOAT16` or `FLOAT8`.
        axis: with `FLOAT8`, where each index has a scale that takes its largest weight to 448.

    Returns:
        What holds infinities or NaN if a weight is beyond the type's range.
    """
    with np.errstate(over="ignore"):  # the caller looks for infinities
        if dtype not in _SCALED:
            return SmallFloats(values.astype(dtype), None)
    limit = _SCALED[dtype]
    granularity = PerChannel(axis)
    numbers = reduce_max_abs(values, granularity) / limit
    numbers = np.where(numbers > 0, np.maximum(numbers, MIN_SCALE), 1).astype(np.float32)
    scale = spread(numbers, values.shape, granularity)
    quotients = np.clip(values / scale, -limit, limit)  # rounding may take one just above
    return SmallFloats(quotients.astype(dtype), scale)
