"""Weighted nodes seen alike: groups of matrix products y = x W^T + b.

Source: ONNX Conv (opset 1-22), Gemm (7-13), MatMul (1-13).
"""

from __future__ import annotations

import math

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import Node
from onnxcompress.ir.ops import output_channel_axis
from onnxcompress.quantization.patches import Window, patches


def to_matrices(node: Node, weight: np.ndarray) -> np.ndarray:
    """The weight of a Conv, Gemm or MatMul as [groups, outputs / groups, features]."""
    if node.op == "Conv":
        shape = node.int_attr("group", 1), -1, math.prod(weight.shape[1:])
        return weight.reshape(shape)
    by_row = output_channel_axis(node, weight.ndim) == 0
    return (weight if by_row else weight.T)[None]


def from_matrices(node: Node, matrices: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `to_matrices` for a weight of that shape."""
    if node.op == "Conv":
        return matrices.reshape(shape)
    by_row = output_channel_axis(node, len(shape)) == 0
    matrix: np.ndarray = matrices[0]
    return matrix if by_row else matrix.T


def inputs_of(node: Node, values: np.ndarray, most: int) -> np.ndarray:
    """What the node multiplies its weight with, as [groups, rows, features].

    Args:
        node: a Conv, Gemm or MatMul with a stored weight.
        values: its first input, float.
        most: rows taken of each sample, see `patches`; of a MatMul with more axes than two too.
    """
    if node.op == "Conv":
        weight = query.constant(node, 1)
        assert weight is not None
        window = _window(node, values.shape[2:], weight.shape[2:])
        return patches(values, window, node.int_attr("group", 1), most)
    rows = values.reshape(values.shape[0], -1, values.shape[-1])[:, :most]
    return rows.reshape(1, -1, values.shape[-1])


def _window(conv: Node, extent: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    ones = (1,) * len(kernel)
    strides = conv.ints_attr("strides", ones)
    dilations = conv.ints_attr("dilations", ones)
    mode = conv.text_attr("auto_pad", "NOTSET")
    pads = conv.ints_attr("pads", (0,) * 2 * len(kernel))
    begins, ends = pads[: len(kernel)], pads[len(kernel) :]
    if mode == "VALID":
        begins = ends = (0,) * len(kernel)
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, s, k, d in zip(extent, strides, kernel, dilations, strict=True)
        ]
        lower, upper = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        begins, ends = (lower, upper) if mode == "SAME_UPPER" else (upper, lower)
    return Window(kernel, strides, dilations, begins, ends)
