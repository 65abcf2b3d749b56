"""Nodes of a model as a model of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from onnxcompress.ir.clone import rewired
from onnxcompress.ir.model import Constant, Graph, Model, Node, Tensor, Variable


def part_of(
    model: Model,
    nodes: Sequence[Node],
    values: Mapping[str, np.ndarray],
    *,
    most_stored: int | None = None,
) -> Model:
    """A model of these nodes alone; what they read is stored in it, and all they make is returned.

    Args:
        model: where they stand.
        nodes: in execution order.
        values: of tensors that other nodes make.
        most_stored: elements; of larger tensors only the type and shape are told. None to store
            all.
    """
    copies: dict[Tensor, Tensor] = {}
    graph = Graph(onnx.GraphProto(name="constants"))

    def copy(tensor: Tensor) -> Tensor:
        if tensor not in copies:
            copies[tensor] = new = _source(tensor, values, most_stored)
            if isinstance(new, Variable) and (new.dtype is not None or new.shape is not None):
                graph.inputs.append(new)
        return copies[tensor]

    for node in nodes:
        graph.nodes.append(rewired(node, copy))
        graph.outputs += [copies[output] for output in node.outputs if output.name]
    return Model(graph, model.envelope)


def _source(tensor: Tensor, values: Mapping[str, np.ndarray], most_stored: int | None) -> Tensor:
    given = tensor if isinstance(tensor, Constant) else values.get(tensor.name)
    if given is None or not tensor.name:
        return Variable(tensor.name)
    if most_stored is None or given.size <= most_stored:
        return Constant(tensor.name, given.stored if isinstance(given, Constant) else given)
    return Variable(tensor.name, given.dtype, list(given.shape))
