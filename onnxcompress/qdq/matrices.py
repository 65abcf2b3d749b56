"""Weighted nodes seen alike: groups of matrix products y = x W^T + b.

Source: ONNX Conv (opset 1-22), Gemm (7-13), MatMul (1-13).
"""

from __future__ import annotations

import math

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Node
from onnxcompress.ir.ops import output_channel_axis
from onnxcompress.quantization.patches import Window, chosen_positions, patches


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

    Returns:
        The dtype of `values`; rows of all samples, one sample after another.
    """
    if node.op == "Conv":
        weight = query.constant(node, 1)
        assert weight is not None
        window = _window(node, values.shape[2:], weight.shape[2:])
        return patches(values, window, node.int_attr("group", 1), most)
    samples = values.shape[0] if values.ndim > 1 else 1
    rows = values.reshape(samples, -1, values.shape[-1])[:, :most]
    return rows.reshape(1, -1, values.shape[-1])


def outputs_of(node: Node, values: np.ndarray, most: int) -> np.ndarray:
    """What the node makes of the rows of `inputs_of`, as [groups, rows, outputs / groups].

    Args:
        node: a Conv, Gemm or MatMul with a stored weight.
        values: float of the shape of its output.
        most: as for `inputs_of`, which takes the same rows then.

    Returns:
        The dtype of `values`.
    """
    if node.op == "Conv":
        samples, channels = values.shape[:2]
        flat = values.reshape(samples, node.int_attr("group", 1), -1, math.prod(values.shape[2:]))
        taken = flat[..., chosen_positions(flat.shape[-1], most)]
        groups = taken.shape[1]
        return taken.transpose(1, 0, 3, 2).reshape(groups, -1, channels // groups)
    samples = values.shape[0] if values.ndim > 1 else 1
    rows = values.reshape(samples, -1, values.shape[-1])[:, :most]
    return rows.reshape(1, -1, values.shape[-1])


def scale_inputs(edit: Editor, node: Node, factors: np.ndarray) -> None:
    """Multiplies the weight by a factor for each input channel; of several features a channel, all.

    Args:
        edit: records the change.
        node: a Conv, Gemm or MatMul with a stored weight.
        factors: float64, one for each input channel of the node, all groups.
    """
    weight = query.constant(node, 1)
    assert weight is not None
    matrices = to_matrices(node, weight.values)
    groups, _, features = matrices.shape
    repeated = np.repeat(factors, groups * features // len(factors)).reshape(groups, 1, features)
    values = from_matrices(node, (matrices * repeated).astype(weight.dtype), weight.shape)
    edit.set_values(node, 1, np.ascontiguousarray(values), "inputs scaled")


def add_to_bias(edit: Editor, node: Node, shift: np.ndarray) -> None:
    """Adds one number a channel, float [channels] or [groups, channels], to a stored bias.

    The bias may be one number for all; it is the third input of a Conv or Gemm.
    """
    bias = query.constant(node, 2)
    assert bias is not None
    values = bias.values.astype(np.float64)
    total = values + (shift.reshape(-1) if values.ndim < 2 else shift.reshape(1, -1))
    edit.set_values(node, 2, total.astype(np.float32), f"{bias.name} takes up the mean error")


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
