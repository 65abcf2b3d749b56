"""Is this a graph at all? The structure that every pass must leave behind."""

from __future__ import annotations

from onnxcompress.errors import ModelError
from onnxcompress.ir.model import Constant, Graph, Model, Node, Tensor, Variable

_SHOWN_AROUND = 2


def verify(model: Model) -> None:
    """Checks that nodes are sorted, names are unique and every tensor read is defined.

    Raises:
        ModelError: says what does not hold and shows the nodes round the fault.
    """
    _verify_graph(model.graph, set())
    names: set[str] = set()
    for graph, node in model.nodes():
        if node.name in names:
            raise _fault(graph, node, f"two nodes are named {node.name!r}")
        names.add(node.name)


def _verify_graph(graph: Graph, outer: set[str]) -> None:
    constants = [
        tensor
        for node in graph.nodes
        for tensor in node.inputs
        if isinstance(tensor, Constant) and tensor.name not in outer
    ]
    known: dict[str, Tensor] = {}
    stored: list[Tensor] = [*graph.inputs, *graph.initializers, *constants]
    for tensor in stored:
        if known.setdefault(tensor.name, tensor) is not tensor:
            raise ModelError(f"graph {graph.name!r}: two tensors are named {tensor.name!r}")
    defined = outer | known.keys()
    for node in graph.nodes:
        for tensor in node.inputs:
            if tensor.name and tensor.name not in defined:
                raise _fault(graph, node, f"reads {tensor.name!r}, {_why_missing(tensor)}")
        for body in node.bodies():
            _verify_graph(body, defined)
        for tensor in filter(lambda output: output.name, node.outputs):
            if tensor.name in defined:
                raise _fault(graph, node, f"writes {tensor.name!r}, which is already defined")
            defined.add(tensor.name)
    for tensor in graph.outputs:
        if tensor.name not in defined and not isinstance(tensor, Constant):
            raise ModelError(
                f"graph {graph.name!r} returns {tensor.name!r}, {_why_missing(tensor)}"
            )


def _why_missing(tensor: Tensor) -> str:
    if isinstance(tensor, Variable) and tensor.inputs:
        return f"which node {tensor.inputs[0].name!r} only writes later"
    return "which nothing defines"


def _fault(graph: Graph, node: Node, what: str) -> ModelError:
    index = graph.nodes.index(node)
    first = max(0, index - _SHOWN_AROUND)
    around = graph.nodes[first : index + _SHOWN_AROUND + 1]
    shown = "\n".join(f"  {'>' if near is node else ' '} {near!r}" for near in around)
    return ModelError(f"node {node.name!r} ({node.op}) {what}; the nodes around it:\n{shown}")
