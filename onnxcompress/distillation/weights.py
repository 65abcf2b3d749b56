"""Which stored tensors are weights.

Not every float tensor is one: statistics, bounds, sizes and zero states are not. What it is depends
on who reads it, and at which input.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnxcompress.ir import query
from onnxcompress.ir.model import STANDARD, Constant, Node, Tensor

_WEIGHTS: Mapping[str, frozenset[int]] = {
    name: frozenset(inputs)
    for name, inputs in {
        "Conv": (1, 2),
        "ConvTranspose": (1, 2),
        "Gemm": (1, 2),
        "MatMul": (0, 1),
        "FusedMatMul": (0, 1),
        "LSTM": (1, 2, 3, 7),
        "GRU": (1, 2, 3),
        "RNN": (1, 2, 3),
        "BatchNormalization": (1, 2),
        "InstanceNormalization": (1, 2),
        "GroupNormalization": (1, 2),
        "LayerNormalization": (1, 2),
        "RMSNormalization": (1,),
        "SimplifiedLayerNormalization": (1,),
        "PRelu": (1,),
        "Gather": (0,),
    }.items()
}
"""Inputs that hold weights."""

_VECTORS = frozenset({"Add", "Mul"})
"""Operators whose stored input is a bias or a factor if it has one number for each channel."""

_BLIND = frozenset({"Shape", "Size"})
"""Operators that do not look at values."""

_MOVES = frozenset({"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast"})
"""Operators that put a weight in another shape before it is read."""


def weight_uses(constant: Constant) -> list[Node]:
    """The nodes that a stored tensor is a weight of; none if any reader takes it for another thing.

    What moves a weight about before it is read is looked through, and so is DequantizeLinear.
    """
    found: list[Node] = []
    waiting: list[Tensor] = [constant]
    while waiting:
        tensor = waiting.pop()
        for node in query.consumers(tensor):
            places = {at for at, each in enumerate(node.inputs) if each is tensor}
            name = node.op if node.domain in (*STANDARD, "com.microsoft") else ""
            if places <= _WEIGHTS.get(name, frozenset()) or (
                name in _VECTORS and tensor is constant and _is_vector(constant)
            ):
                found.append(node)
            elif places == {0} and (name in _MOVES or name == "DequantizeLinear"):
                waiting.append(node.outputs[0])
            elif name not in _BLIND:
                return []
    return found


def _is_vector(constant: Constant) -> bool:
    return constant.dtype.kind == "f" and constant.size > 1 and max(constant.shape) == constant.size
