"""Copies of a model that share its weights."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from onnxcompress.ir.model import Constant, Graph, Model, Node, Tensor, Variable


def clone(model: Model) -> Model:
    """A model to edit freely: new nodes and tensors, the same arrays.

    Arrays are never written in place, so a search can hold fifty candidates of a 400 MB model in
    little more than 400 MB.
    """
    envelope = onnx.ModelProto()
    envelope.CopyFrom(model.envelope)
    return Model(_clone_graph(model.graph, {}), envelope, model.path, model.files, model.notes)


def rewired(node: Node, copy: Callable[[Tensor], Tensor]) -> Node:
    """A node like this one, of the tensors that stand for its own; graphs in it are shared."""
    inputs, outputs = ([copy(each) for each in side] for side in (node.inputs, node.outputs))
    return Node(node.op, node.name, dict(node.attrs), inputs, outputs, node.domain, node.envelope)


def _clone_graph(graph: Graph, tensors: dict[Tensor, Tensor]) -> Graph:
    def copy(tensor: Tensor) -> Tensor:
        if tensor not in tensors:
            tensors[tensor] = _clone_tensor(tensor)
        return tensors[tensor]

    result = Graph(graph.envelope)
    result.inputs = [copy(tensor) for tensor in graph.inputs]
    result.initializers = [copy(constant) for constant in graph.initializers]
    result.defaults = {name: _clone_tensor(value) for name, value in graph.defaults.items()}
    for node in graph.nodes:
        made = rewired(node, copy)
        for name, value in node.attrs.items():
            if isinstance(value, Graph):
                made.attrs[name] = _clone_graph(value, tensors)
        result.nodes.append(made)
    result.outputs = [copy(tensor) for tensor in graph.outputs]
    return result


def _clone_tensor(tensor: Tensor) -> Tensor:
    if isinstance(tensor, Constant):
        return Constant(tensor.name, tensor.stored, tensor.envelope)
    return Variable(tensor.name, tensor.dtype, tensor.shape, tensor.envelope)
