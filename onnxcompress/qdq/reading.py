"""Reading what is stored as integers behind a DequantizeLinear (ONNX, opset 10-25)."""

from __future__ import annotations

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import Node


def dequantizer(node: Node, index: int) -> Node | None:
    """The DequantizeLinear of stored integers that a node reads at an input; None if none."""
    if not query.has_input(node, index):
        return None
    found = query.producer_of(node.inputs[index], "DequantizeLinear")
    if found is None or query.constant(found, 0) is None or query.constant(found, 1) is None:
        return None
    return found


def dequantized_values(node: Node, index: int) -> np.ndarray:
    """What those integers stand for, float64 and of their shape.

    Args:
        node: reads integers with one scale, or one for each channel.
        index: of the input, where `dequantizer` finds a node.
    """
    found = dequantizer(node, index)
    assert found is not None
    levels, scale, zero = (query.constant(found, i) for i in range(3))
    assert levels is not None and scale is not None
    axis = found.int_attr("axis", 1) % max(len(levels.shape), 1)
    spread = [-1 if each == axis else 1 for each in range(len(levels.shape))]

    def wide(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float64).reshape(spread if values.ndim else ())

    offset = 0.0 if zero is None else wide(zero.values)
    values: np.ndarray = (levels.values.astype(np.float64) - offset) * wide(scale.values)
    return values
