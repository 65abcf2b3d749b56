"""Residual blocks: parts of a graph of the form y = x + f(x), or a normalization of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxcompress.ir import query
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor, Variable
from onnxcompress.pass_base import TensorType
from onnxcompress.students.region import Regions

_PRODUCTS = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "GRU", "LSTM", "RNN"),
        *("ConvInteger", "MatMulInteger", "MatMulNBits", "QLinearConv", "QLinearMatMul"),
    }
)
"""What makes f more than an activation function: x + 0.04 x^3 is a part of Gelu."""

_CLOSING = frozenset(
    {
        *("BatchNormalization", "LayerNormalization", "RMSNormalization"),
        *("SimplifiedLayerNormalization", "Clip", "LeakyRelu", "PRelu", "Relu"),
        *("Add", "Cast", "Div", "Identity", "Mul", "Pow", "Reciprocal", "ReduceMean"),
        *("Sqrt", "Sub"),
    }
)
"""What may follow the sum as a part of the block: a normalization, whole or written out."""


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a model that can be left out: what reads `end` reads `start` instead.

    Attributes:
        name: of the sum, of the last one if there are several.
        sums: the nodes that add f(x) to x.
        start: x.
        end: y, of the same type and shape.
        nodes: those that hand x on to the last sum, in order.
    """

    name: str
    sums: tuple[Node, ...]
    start: Variable
    end: Variable
    nodes: tuple[Node, ...]

    @property
    def attends(self) -> bool:
        """Whether it is an attention: it multiplies what it computed with what it computed."""
        return any(
            node.op in ("Attention", "MultiHeadAttention", "GroupQueryAttention")
            or (node.op == "MatMul" and not _is_stored(node, 0) and not _is_stored(node, 1))
            for node in self.nodes
        )

    @property
    def channel_axis(self) -> int:
        """The axis along which a position of `start` and `end` is one vector."""
        return 1 if any(node.op.startswith("Conv") for node in self.nodes) else -1


def find_blocks(model: Model, types: Mapping[str, TensorType]) -> list[Block]:
    """Every residual block of the main graph, in order.

    Args:
        model: sorted.
        types: of its tensors; sums of unknown shape are no blocks.
    """
    regions = Regions(model)
    fed = regions.fed()
    blocks = []
    for node in model.graph.nodes:
        if node.op in ("Add", "Sum") and node.domain in STANDARD and len(node.inputs) == 2:
            block = _block_at(regions, node, types)
            # Queries that are learned have no batch axis before they meet the data.
            if block is not None and block.start in fed:
                blocks.append(block)
    return blocks


def whole_blocks(blocks: list[Block]) -> list[Block]:
    """Blocks with each attention joined to the network that follows it; others as they are."""
    joined: list[Block] = []
    waiting: list[Block] = []
    for block in blocks:
        if waiting and waiting[-1].end is not block.start:
            joined += waiting
            waiting = []
        if block.attends:
            waiting.append(block)
            continue
        joined.append(_join([*waiting, block]))
        waiting = []
    return joined + waiting


def _join(blocks: list[Block]) -> Block:
    return Block(
        blocks[-1].name,
        tuple(node for block in blocks for node in block.sums),
        blocks[0].start,
        blocks[-1].end,
        tuple(dict.fromkeys(node for block in blocks for node in block.nodes)),
    )


def _block_at(regions: Regions, node: Node, types: Mapping[str, TensorType]) -> Block | None:
    first, second = (_unwrapped(each) for each in node.inputs)
    for start, branch in ((first, second), (second, first)):
        if not isinstance(start, Variable) or not isinstance(branch, Variable):
            continue
        if start is branch or not _agree(types, start, node.outputs[0]):
            continue
        path = regions.between(start, branch)
        if any(each.op in _PRODUCTS for each in path):
            end = _end(regions, start, node.outputs[0])
            if _agree(types, start, end):
                return Block(node.name, (node,), start, end, (*path, node))
    return None


def _unwrapped(tensor: Tensor) -> Tensor:
    """What a tensor is a copy of; exporters put such nodes where training does more."""
    while (writer := query.producer(tensor)) is not None and writer.op in ("Dropout", "Identity"):
        tensor = writer.inputs[0]
    return tensor


def _end(regions: Regions, start: Variable, total: Variable) -> Variable:
    """The tensor behind the sum that is of the kind of `start`: the sum, if none is."""
    behind = [tensor for tensor, _ in regions.exits(total, _closes)]
    same = [tensor for tensor in (total, *behind) if _kind(tensor) == _kind(start)]
    return same[0] if same else total


def _closes(node: Node) -> bool:
    return node.op in _CLOSING


def _kind(tensor: Variable) -> tuple[str, int] | None:
    """What writes a tensor; a sum with a bias is another thing than one of two branches."""
    node = query.producer(tensor)
    if node is None:
        return None
    return node.op, sum(isinstance(each, Constant) for each in node.inputs)


def _agree(types: Mapping[str, TensorType], one: Variable, other: Variable) -> bool:
    return one.name in types and types[one.name] == types.get(other.name)


def _is_stored(node: Node, index: int) -> bool:
    """Whether an operand is stored, as it is or as integers."""
    tensor = node.inputs[index]
    while isinstance(tensor, Variable):
        writer = query.producer(tensor)
        if writer is None or writer.op not in ("Cast", "DequantizeLinear", "Mul", "Transpose"):
            return False
        tensor = writer.inputs[0]
    return True
