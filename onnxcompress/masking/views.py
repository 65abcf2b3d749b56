"""Every weight that can be pruned, seen as [groups, outputs, features], whatever operator reads it.

Source: ONNX Conv, ConvTranspose (opset 1-22), Gemm (7-13), MatMul (1-13), LSTM, GRU, RNN (7-22).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from onnxcompress.ir.model import Node
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.qdq.candidates import RECURRENT_OPS
from onnxcompress.qdq.matrices import from_matrices, to_matrices
from onnxcompress.qdq.recurrent import RECURRENT_WEIGHTS

PRUNABLE_INPUTS: Mapping[str, tuple[int, ...]] = {
    **{op: (spec.weight,) for op, spec in WEIGHTED_OPS.items()},
    **dict.fromkeys(RECURRENT_OPS, RECURRENT_WEIGHTS),
}
"""Operators whose weights can be pruned, and the inputs that these are."""


def to_view(node: Node, weight: np.ndarray) -> np.ndarray:
    """A weight of the node as [groups, outputs, features].

    Directions of a recurrent node, and products of a MatMul with more than one, count as groups.
    """
    if node.op in RECURRENT_OPS:
        return weight
    if node.op == "ConvTranspose":
        return _transposed_view(node, weight)
    if node.op == "MatMul" and weight.ndim != 2:
        columns = weight if weight.ndim > 1 else weight[:, None]
        return columns.reshape(-1, *columns.shape[-2:]).swapaxes(1, 2)
    return to_matrices(node, weight)


def from_view(node: Node, view: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `to_view` for a weight of that shape."""
    if node.op in RECURRENT_OPS:
        return view
    if node.op == "ConvTranspose":
        groups, outputs = view.shape[:2]
        parts = view.reshape(groups, outputs, -1, math.prod(shape[2:]))
        return parts.swapaxes(1, 2).reshape(shape)
    if node.op == "MatMul" and len(shape) != 2:
        return view.swapaxes(1, 2).reshape(shape)
    return from_matrices(node, view, shape)


def kernel_size(node: Node, shape: tuple[int, ...]) -> int:
    """Features of one input channel, which lie together: more than one of a convolution alone."""
    return math.prod(shape[2:]) if node.op in ("Conv", "ConvTranspose") else 1


def _transposed_view(node: Node, weight: np.ndarray) -> np.ndarray:
    """Of [inputs, outputs / group, *kernel]: the inputs of a group lie together."""
    groups, outputs = node.int_attr("group", 1), weight.shape[1]
    parts = weight.reshape(groups, -1, outputs, math.prod(weight.shape[2:]))
    return parts.swapaxes(1, 2).reshape(groups, outputs, -1)
