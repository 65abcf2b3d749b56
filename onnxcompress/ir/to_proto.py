"""`Model` -> ONNX protobuf. Untouched parts leave as they came in, field for field."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx

from onnxcompress.ir import elements
from onnxcompress.ir.model import Constant, Graph, Model, Node, Tensor, Variable
from onnxcompress.ir.sparse import SparseArray

StoreTensor = Callable[[Constant], onnx.TensorProto]
"""How a stored tensor's elements reach the file: inside the message, or in a file beside it."""


def store_inside(constant: Constant) -> onnx.TensorProto:
    """Puts the elements into the message itself."""
    proto = elements.from_array(np.ascontiguousarray(constant.values), constant.name)
    proto.dims[:] = constant.shape  # ascontiguousarray makes scalars one-dimensional
    return described(proto, constant)


def described(proto: onnx.TensorProto, constant: Constant) -> onnx.TensorProto:
    """Adds the doc string and metadata that the tensor was loaded with."""
    if constant.envelope is not None:
        proto.MergeFrom(constant.envelope)
    return proto


def export_model(
    model: Model, store: StoreTensor = store_inside, *, in_bodies: StoreTensor | None = None
) -> onnx.ModelProto:
    """Builds the message. The model is not changed and shares nothing with it.

    A stored tensor is written once, in the innermost graph that all its users can see.

    Args:
        model: what to write.
        store: makes the message of each stored tensor.
        in_bodies: does so in the bodies of nodes; None for `store`.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.envelope)
    exporter = _Exporter(in_bodies or store, _homes(model), model.envelope.ir_version)
    exporter.graph(model.graph, proto.graph, store)
    return proto


class _Exporter:
    def __init__(self, inner: StoreTensor, homes: dict[Graph, list[Constant]], ir_version: int):
        self.inner = inner
        self.homes = homes
        self.ir_version = ir_version

    def graph(self, graph: Graph, proto: onnx.GraphProto, store: StoreTensor) -> None:
        """Writes a graph into an empty message: weights are too large to copy about."""
        proto.CopyFrom(graph.envelope)
        proto.input.extend(_value_info(tensor) for tensor in graph.inputs)
        proto.output.extend(_value_info(tensor) for tensor in graph.outputs)
        for constant in [*self.homes.get(graph, []), *graph.defaults.values()]:
            if isinstance(constant.stored, SparseArray):
                sparse = proto.sparse_initializer.add()
                sparse.CopyFrom(constant.stored.proto)
                sparse.values.name = constant.name
            else:
                proto.initializer.append(store(constant))
            if self.ir_version < 4:  # see import_model
                proto.input.append(_value_info(constant))
        shown = {tensor.name for tensor in [*graph.inputs, *graph.outputs]}
        for node in graph.nodes:
            self.node(node, proto.node.add())
            proto.value_info.extend(
                _value_info(tensor)
                for tensor in node.outputs
                if tensor.name and tensor.name not in shown and _is_described(tensor)
            )

    def node(self, node: Node, proto: onnx.NodeProto) -> None:
        if node.envelope is not None:
            proto.CopyFrom(node.envelope)
        proto.op_type, proto.name, proto.domain = node.op, node.name, node.domain
        proto.input.extend(tensor.name for tensor in node.inputs)
        proto.output.extend(tensor.name for tensor in node.outputs)
        for name, value in node.attrs.items():
            if isinstance(value, Graph):
                body = proto.attribute.add(name=name, type=onnx.AttributeProto.GRAPH)
                self.graph(value, body.g, self.inner)
            else:
                proto.attribute.append(value)


def _is_described(tensor: Variable) -> bool:
    return tensor.envelope is not None or tensor.dtype is not None


def _value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    if isinstance(tensor, Variable) and tensor.envelope is not None:
        info = onnx.ValueInfoProto()
        info.CopyFrom(tensor.envelope)
        info.name = tensor.name
        return info
    if tensor.dtype is None:
        return onnx.ValueInfoProto(name=tensor.name)
    onnx_type = elements.type_of(tensor.dtype)
    return onnx.helper.make_tensor_value_info(tensor.name, onnx_type, tensor.shape)


def _homes(model: Model) -> dict[Graph, list[Constant]]:
    """For each graph, the stored tensors to write there."""
    chain: dict[Graph, tuple[Graph, ...]] = {model.graph: (model.graph,)}
    home: dict[Constant, tuple[Graph, ...]] = {}

    def place(constants: Iterable[Tensor], graphs: tuple[Graph, ...]) -> None:
        for constant in constants:
            if isinstance(constant, Constant):
                known = home.get(constant, graphs)
                shared = sum(a is b for a, b in zip(known, graphs, strict=False))
                home[constant] = graphs[:shared]

    for graph in model.graphs():
        graphs = chain[graph]
        place(graph.initializers, graphs)  # used or not, and in the file's order
        for node in graph.nodes:
            place(node.inputs, graphs)
            chain.update((body, (*graphs, body)) for body in node.bodies())
        place(graph.outputs, graphs)
    homes: dict[Graph, list[Constant]] = {}
    for constant, graphs in home.items():
        homes.setdefault(graphs[-1], []).append(constant)
    return homes
