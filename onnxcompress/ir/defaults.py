"""Inputs of a model that have a stored value, which nobody may ever replace."""

from __future__ import annotations

from collections.abc import Collection

from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.views import WEIGHTS


def freeze(model: Model, fed: Collection[str]) -> list[str]:
    """Turns inputs with a stored value into stored tensors.

    Args:
        model: is edited.
        fed: names of inputs that stay.

    Returns:
        The names of those that are inputs no more.
    """
    graph = model.graph
    frozen = []
    for variable in list(graph.inputs):
        constant = graph.defaults.get(variable.name)
        if constant is None or variable.name in fed:
            continue
        stored = Constant(constant.name, constant.stored, constant.envelope)
        for reader in query.consumers(variable):
            for index, tensor in enumerate(list(reader.inputs)):
                if tensor is variable:
                    reader.inputs[index] = stored
        for each in model.graphs():
            each.outputs[:] = [stored if tensor is variable else tensor for tensor in each.outputs]
        graph.inputs.remove(variable)
        del graph.defaults[variable.name]
        graph.initializers.append(stored)
        frozen.append(variable.name)
    return frozen


def replaceable_weight(model: Model, node: Node) -> str | None:
    """The name of a node's weight, if that is an input with a stored value."""
    for index in WEIGHTS.get(node.op, ()):
        if index < len(node.inputs) and node.inputs[index].name in model.graph.defaults:
            return node.inputs[index].name
    return None
