"""What the inputs of weighted nodes are like on the calibration data, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onnxcompress.ir import query
from onnxcompress.ir.model import Model, Node, Tensor
from onnxcompress.pass_base import Context
from onnxcompress.qdq.matrices import inputs_of, to_matrices
from onnxcompress.quantization.rounding import Moments

_BYTES_AT_ONCE = 416 << 20
"""Moments held in one run over the data; nodes that need more take several."""


def input_moments(
    model: Model, nodes: Sequence[Node], context: Context, positions: int
) -> Iterator[Mapping[Node, Moments]]:
    """The moments of the inputs of nodes, portion by portion, a run over the data for each.

    Products that read one tensor share its moments. The model must not have changed since the
    editor was made, except in the values of stored tensors: it is run as it was.

    Args:
        model: what is run.
        nodes: Conv, Gemm and MatMul of the main graph with a stored weight.
        context: lends the activations.
        positions: most rows taken of each sample, see `inputs_of`.
    """
    for portion in _portions(nodes):
        sources = {node: _source(node) for node in portion}
        seen = {source: Moments.empty(*size_of(node)) for node, source in sources.items()}
        first = {source: node for node, source in reversed(sources.items())}
        names = list(dict.fromkeys(node.inputs[0].name for node in portion))
        for batch in context.activations(model, names):
            for source, node in first.items():
                seen[source].add(inputs_of(node, batch[node.inputs[0].name], positions))
        yield {node: seen[source] for node, source in sources.items()}


def size_of(node: Node) -> tuple[int, int]:
    """Groups and features of a weighted node."""
    weight = query.constant(node, 1)
    assert weight is not None
    groups, _, features = to_matrices(node, weight.values).shape
    return groups, features


def _source(node: Node) -> Node | Tensor:
    """What decides the rows that a node's weight is multiplied with."""
    return node if node.op == "Conv" else node.inputs[0]


def _portions(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Nodes in order, as many at a time as memory for their moments allows."""
    portion: list[Node] = []
    sources: set[Node | Tensor] = set()
    held = 0
    for node in nodes:
        groups, features = size_of(node)
        size = 0 if _source(node) in sources else 8 * groups * features**2
        if portion and size and held + size > _BYTES_AT_ONCE:
            yield portion
            portion, sources, held = [], set(), 0
        portion.append(node)
        sources.add(_source(node))
        held += size
    if portion:
        yield portion
