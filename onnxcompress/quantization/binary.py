"""Weights as sums of signs.

Source: Rastegari et al., "XNOR-Net", ECCV 2016 (one sign and the mean magnitude, which is its
least-squares factor); Guo et al., "Network Sketching", CVPR 2017, and Lin et al., "Towards Accurate
Binary Convolutional Neural Network" (ABC-Net), NeurIPS 2017 (several, each on what the ones before
left over).
"""

from __future__ import annotations

import numpy as np

from onnxcompress.quantization.bitpack import CodedWeight, Codes
from onnxcompress.quantization.groups import Groups

SIGNS = np.array([[-1, 1]], np.float32)
"""What codes 0 and 1 stand for; a weight of zero becomes +1."""


def binarize(values: np.ndarray, groups: Groups, bases: int) -> CodedWeight:
    """W  ->  a_1 sign(R_1) + ... + a_n sign(R_n), R_1 = W, R_{i+1} = R_i - a_i sign(R_i).

    Args:
        values: finite float weight in `groups.shape`.
        groups: what shares a factor a_i = mean |R_i|.
        bases: how many signs, at least 1.
    """
    residual = groups.divide(values)
    terms: list[Codes] = []
    for _ in range(bases):
        positive = residual >= 0
        factor = groups.mean(np.abs(residual), np.True_)
        terms.append(Codes(positive.astype(np.uint8), 1, SIGNS, factor))
        residual = residual - np.where(positive, 1.0, -1.0) * factor
    return CodedWeight(groups, tuple(terms))
