"""Weights as -1, 0 and 1 times a factor.

Source: Li and Liu, "Ternary Weight Networks", 2016: a weight below t = 0.7 mean |W| becomes 0, and
the factor is the mean magnitude of the others, which is least squares for that choice.
"""

from __future__ import annotations

import numpy as np

from onnxcompress.quantization.bitpack import CodedWeight, Codes
from onnxcompress.quantization.groups import Groups

TRITS = np.array([[-1, 0, 1]], np.float32)
"""What codes 0, 1 and 2 stand for."""


def ternarize(values: np.ndarray, groups: Groups, threshold: float) -> CodedWeight:
    """W  ->  a * {-1, 0, 1}, at two bits a weight.

    Args:
        values: finite float weight in `groups.shape`.
        groups: what shares a threshold and a factor.
        threshold: the magnitude below which a weight becomes 0, in units of mean |W|.
    """
    divided = groups.divide(values)
    magnitude = np.abs(divided)
    limit = threshold * groups.mean(magnitude, np.True_).astype(np.float64)
    large = magnitude > limit
    factor = groups.mean(magnitude, large)
    codes = np.where(large, np.where(divided > 0, 2, 0), 1).astype(np.uint8)
    return CodedWeight(groups, (Codes(codes, 2, TRITS, factor),))
