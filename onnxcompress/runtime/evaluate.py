"""The value of nodes that depend on stored tensors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from onnxcompress.ir import io
from onnxcompress.ir.model import Constant, Graph, Model, Node, Tensor, Variable
from onnxcompress.runtime.session import Session, SessionSettings


def evaluate(model: Model, nodes: Sequence[Node]) -> Mapping[str, np.ndarray]:
    """Runs `nodes`, in this order, in onnxruntime and returns every output by name.

    Args:
        model: where they stand; its opsets and functions hold for them.
        nodes: nodes that read only stored tensors and each other.

    Raises:
        SessionError: onnxruntime cannot run them.
    """
    copies: dict[Tensor, Tensor] = {}

    def copy(tensor: Tensor) -> Tensor:
        if tensor not in copies:
            stored = isinstance(tensor, Constant)
            new = Constant(tensor.name, tensor.stored) if stored else Variable(tensor.name)
            copies[tensor] = new
        return copies[tensor]

    graph = Graph(onnx.GraphProto(name="constants"))
    for node in nodes:
        inputs, outputs = map(copy, node.inputs), map(copy, node.outputs)
        graph.nodes.append(
            Node(
                node.op,
                node.name,
                node.attrs,
                list(inputs),
                list(outputs),
                node.domain,
                node.envelope,
            )
        )
        graph.outputs += [copies[output] for output in node.outputs if output.name]
    part = Model(graph, model.envelope)
    return Session(io.to_bytes(part), SessionSettings(optimize=False)).run({})
