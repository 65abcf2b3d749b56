"""Multiply-accumulates of a model for one sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.pass_base import TensorType

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class OpCost:
    """What the nodes of one operator hold and compute.

    Attributes:
        op: operator, with its domain if it is not a standard one.
        count: nodes.
        parameters: elements of the stored tensors they read, each counted once.
        macs: multiply-accumulates for the sample; 0 for operators that are not counted.
    """

    op: str
    count: int
    parameters: int
    macs: int


def _convolution(node: Node, shapes: list[Shape], output: Shape) -> int:
    del node
    return math.prod(output) * math.prod(shapes[1][1:])


def _transposed_convolution(node: Node, shapes: list[Shape], output: Shape) -> int:
    del node, output
    return math.prod(shapes[0]) * math.prod(shapes[1][1:])


def _gemm(node: Node, shapes: list[Shape], output: Shape) -> int:
    return math.prod(output) * shapes[0][0 if node.int_attr("transA", 0) else 1]


def _matmul(node: Node, shapes: list[Shape], output: Shape) -> int:
    del node
    return math.prod(output) * shapes[0][-1]


def _recurrent(node: Node, shapes: list[Shape], output: Shape) -> int:
    del node, output
    steps, batch, _ = shapes[0]
    return steps * batch * (math.prod(shapes[1]) + math.prod(shapes[2]))


_MACS: Mapping[str, Callable[[Node, list[Shape], Shape], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "com.microsoft.MatMulNBits": _matmul,
    "LSTM": _recurrent,
    "com.microsoft.DynamicQuantizeLSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
_INPUTS = {op: 3 for op, count in _MACS.items() if count is _recurrent}
"""How many inputs decide the cost; 2 for operators not named."""


def macs_of(node: Node, shape: Callable[[Tensor], Shape | None]) -> int:
    """Multiply-accumulates of one node; 0 if it is not counted or its shapes are not known."""
    op = _full_name(node)
    if op not in _MACS or not node.outputs:
        return 0
    shapes = [shape(tensor) for tensor in node.inputs[: _INPUTS.get(op, 2)]]
    output = shape(node.outputs[0])
    known = [each for each in shapes if each is not None]
    return 0 if output is None or len(known) < len(shapes) else _MACS[op](node, known, output)


def cost_by_op(model: Model, types: Mapping[str, TensorType]) -> list[OpCost]:
    """Counts nodes, parameters and multiply-accumulates, the costliest operator first.

    Args:
        model: bodies are counted once, however often they run; their MACs are not known.
        types: shapes of the main graph's tensors for one sample.
    """
    counts: dict[str, int] = {}
    macs: dict[str, int] = {}
    weights: dict[str, dict[Constant, None]] = {}

    def shape(tensor: Tensor) -> Shape | None:
        if isinstance(tensor, Constant):
            return tensor.shape
        known = types.get(tensor.name)
        return None if known is None else known.shape

    for _, node in model.nodes():
        op = _full_name(node)
        counts[op] = counts.get(op, 0) + 1
        stored = weights.setdefault(op, {})
        stored.update((tensor, None) for tensor in node.inputs if isinstance(tensor, Constant))
        macs[op] = macs.get(op, 0) + macs_of(node, shape)
    rows = [
        OpCost(
            op=op,
            count=count,
            parameters=sum(constant.size for constant in weights[op]),
            macs=macs.get(op, 0),
        )
        for op, count in counts.items()
    ]
    return sorted(rows, key=lambda row: (-row.macs, -row.parameters, -row.count, row.op))


def _full_name(node: Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else node.op
