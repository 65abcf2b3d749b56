"""Questions about a graph that several passes ask."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import onnx

from onnxcompress.ir import elements
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor, Variable


def nodes(model: Model, ops: Container[str] | None = None) -> list[Node]:
    """The standard operators' nodes named in `ops`, bodies included, as a list safe to edit under.

    Without `ops`, every node of every domain.
    """
    return [
        node
        for _, node in model.nodes()
        if ops is None or (node.op in ops and node.domain in STANDARD)
    ]


def outermost(model: Model) -> Mapping[Node, Node]:
    """For each node the one of the main graph that holds it, or itself."""
    around = {inner: node for node in model.graph.nodes for inner in node.inner_nodes()}
    return {**around, **{node: node for node in model.graph.nodes}}


def producer(tensor: Tensor) -> Node | None:
    """The node that writes a tensor; None for graph inputs and stored tensors."""
    return tensor.inputs[0] if tensor.inputs else None


def producer_of(tensor: Tensor, op: str) -> Node | None:
    """The node that writes a tensor, if it is a standard `op`."""
    node = producer(tensor)
    return node if node is not None and node.op == op and node.domain in STANDARD else None


def consumers(tensor: Tensor) -> list[Node]:
    """The nodes that read a tensor, in bodies too, once each."""
    return list(dict.fromkeys(tensor.outputs))


def only_consumer(model: Model, tensor: Tensor) -> Node | None:
    """The one node that reads a tensor, if there is one and no graph returns the tensor."""
    readers = consumers(tensor)
    return readers[0] if len(readers) == 1 and not model.is_output(tensor) else None


def constant(node: Node, index: int) -> Constant | None:
    """The stored tensor at an input, or None if it is omitted or computed."""
    if index >= len(node.inputs):
        return None
    tensor = node.inputs[index]
    return tensor if isinstance(tensor, Constant) else None


def has_input(node: Node, index: int) -> bool:
    """Whether an optional input is given."""
    return index < len(node.inputs) and bool(node.inputs[index].name)


def is_scalar(constant: Constant) -> bool:
    """Whether a stored tensor has one element."""
    return constant.size == 1


def tensor_attribute(node: Node, name: str) -> np.ndarray | None:
    """The tensor attribute `name` as an array, or None."""
    value = node.attrs.get(name)
    return elements.to_array(value.t) if isinstance(value, onnx.AttributeProto) else None


def rank(tensor: Tensor) -> int | None:
    """How many axes a tensor has, as far as the file says."""
    return None if tensor.shape is None else len(tensor.shape)


def is_float(tensor: Tensor) -> bool:
    """Whether the file says that a tensor is float32."""
    return tensor.dtype == np.float32


def is_omitted(tensor: Tensor) -> bool:
    """Whether a tensor stands for an optional input that is not given."""
    return isinstance(tensor, Variable) and not tensor.name
