"""Tensors made from numbers and shapes.

Source: ONNX Constant, ConstantOfShape, EyeLike, OneHot, Range (opsets 9 to 25).
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.values import integers, to_torch

_NUMBERS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""Attributes of Constant that hold bare numbers, and of what type."""


def _constant(call: Call) -> torch.Tensor:
    """Only where the node is an output of its graph: others are read as stored tensors."""
    array = call.array("value") if call.has("value") else None
    for name, dtype in _NUMBERS.items():
        if call.has(name):
            attribute = call.node.attrs[name]
            assert isinstance(attribute, onnx.AttributeProto)
            array = np.array(onnx.helper.get_attribute_value(attribute), dtype)
    if array is None:
        raise call.unsupported("only dense numbers are read")
    return to_torch(array, call.precision)


def _constant_of_shape(call: Call, shape: torch.Tensor) -> torch.Tensor:
    array = call.array("value")
    value = to_torch(np.zeros(1, np.float32) if array is None else array, call.precision)
    return value.reshape(()).repeat(integers(shape))


def _eye_like(call: Call, x: torch.Tensor) -> torch.Tensor:
    dtype = call.type("dtype", onnx.TensorProto.FLOAT) if call.has("dtype") else x.dtype
    rows, columns = x.shape
    at = torch.arange(columns) - torch.arange(rows).unsqueeze(1)
    return (at == call.integer("k", 0)).to(dtype)


def _one_hot(
    call: Call, indices: torch.Tensor, depth: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    count = int(depth.reshape(()))
    at = indices.to(torch.int64)
    at = torch.where(at < 0, at + count, at)
    hot = at.unsqueeze(-1) == torch.arange(count)
    axis = call.integer("axis", -1)
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


def _range(
    call: Call, start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor
) -> torch.Tensor:
    del call
    begin, step = start.reshape(()), delta.reshape(())
    count = math.ceil((limit.item() - begin.item()) / step.item())
    return begin + torch.arange(max(count, 0), dtype=begin.dtype) * step


TABLE: Table = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "EyeLike": _eye_like,
    "OneHot": _one_hot,
    "Range": _range,
}
