"""ONNX protobuf -> `Model`. Constant nodes become stored tensors; every node gets a unique name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import numpy_helper

from onnxcompress.errors import ModelError
from onnxcompress.ir.external import locate
from onnxcompress.ir.model import Constant, Graph, Model, Node, Shape, Tensor, Variable
from onnxcompress.ir.names import unique
from onnxcompress.ir.stored import (
    SUB_BYTE_BITS,
    MappedArray,
    PackedArray,
    SparseArray,
    StoredArray,
    stored_bytes,
)

_Message = TypeVar("_Message", bound=Message)

MAX_DENSE_BYTES = 1 << 31
"""A sparse tensor that would be larger than this when spread out is refused."""

_SCALAR_CONSTANTS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def import_model(proto: onnx.ModelProto, path: Path | None = None) -> Model:
    """Builds a `Model` and empties `proto` on the way, so that no weight is held twice for long.

    Args:
        proto: the message; its graph is consumed.
        path: the file it came from; external data is looked for beside it and nowhere else.

    Raises:
        ModelError: a tensor's stored bytes do not fit its type and shape, or lie elsewhere.
    """
    importer = _Importer(path.parent if path else None, proto.ir_version)
    graph = importer.graph(proto.graph, {})
    model = Model(graph, _without(proto, ("graph",)), path)
    _name_nodes(model)
    return model


class _Importer:
    def __init__(self, folder: Path | None, ir_version: int):
        self.folder = folder
        self.ir_version = ir_version

    def graph(self, proto: onnx.GraphProto, outer: Mapping[str, Tensor]) -> Graph:
        weights = {t.name: self.constant(t.name, t) for t in proto.initializer}
        weights |= {t.values.name: _sparse(t) for t in proto.sparse_initializer}
        inputs = {info.name: _variable(info) for info in proto.input}
        defaults: dict[str, Constant] = {}
        for name in inputs.keys() & weights.keys():
            if self.ir_version < 4:  # the inputs list had to repeat every initializer
                del inputs[name]
            else:  # a caller may override the stored value, so it is no constant
                defaults[name] = weights.pop(name)

        returned = {info.name for info in proto.output}
        lifted: dict[str, Constant] = {}
        kept: list[onnx.NodeProto] = []
        for node in proto.node:
            constant = None if returned.intersection(node.output) else self.lifted(node)
            if constant is None:
                kept.append(node)
            else:
                lifted[constant.name] = constant

        # A node may stand before its producer in a file: all outputs exist before any node does.
        described = {info.name: info for info in proto.value_info}
        local: dict[str, Tensor] = {**weights, **inputs, **lifted}
        for node in kept:
            for name in filter(None, node.output):
                if name in local:
                    raise ModelError(
                        f"tensor {name!r} has two producers (one is node {node.name!r}, "
                        f"{node.op_type}); export the model again with unique names"
                    )
                local[name] = _variable(described.get(name, onnx.ValueInfoProto(name=name)))
        scope = {**outer, **local}

        nodes = [self.node(node, scope) for node in kept]
        outputs = [_output(info, scope) for info in proto.output]
        graph = Graph(_without(proto, _GRAPH_CONTENT))
        graph.inputs = list(inputs.values())
        graph.initializers = [*weights.values(), *lifted.values()]
        graph.defaults = defaults
        graph.nodes, graph.outputs = nodes, outputs
        return graph

    def node(self, proto: onnx.NodeProto, scope: dict[str, Tensor]) -> Node:
        attrs: dict[str, onnx.AttributeProto | Graph] = {}
        for attr in proto.attribute:
            if attr.type == onnx.AttributeProto.GRAPHS:
                raise ModelError(
                    f"node {proto.name!r} ({proto.op_type}): attribute {attr.name!r} is a list of "
                    "graphs, which no standard operator uses and onnxcompress does not read"
                )
            is_graph = attr.type == onnx.AttributeProto.GRAPH
            attrs[attr.name] = self.graph(attr.g, scope) if is_graph else _without(attr)

        def tensor(name: str) -> Tensor:
            # A name that nothing defines stays dangling here; verification reports it with context.
            return scope.setdefault(name, Variable(name)) if name else Variable("")

        return Node(
            proto.op_type,
            proto.name,
            attrs,
            [tensor(name) for name in proto.input],
            [tensor(name) for name in proto.output],
            proto.domain,
            _without(proto, _NODE_CONTENT),
        )

    def lifted(self, node: onnx.NodeProto) -> Constant | None:
        """The stored tensor that a Constant node stands for; None for any other node."""
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or not node.attribute:
            return None
        attr, name = node.attribute[0], node.output[0]
        if attr.ref_attr_name:  # bound when a function is called
            return None
        if attr.name == "value":
            return self.constant(name, attr.t)
        if attr.name == "sparse_value":
            return _sparse(attr.sparse_tensor, name)
        if attr.name in _SCALAR_CONSTANTS:
            value = onnx.helper.get_attribute_value(attr)
            return Constant(name, np.array(value, _SCALAR_CONSTANTS[attr.name]))
        return None  # strings stay what they are

    def constant(self, name: str, proto: onnx.TensorProto) -> Constant:
        dtype = _numpy_dtype(proto.data_type, name)
        shape = tuple(proto.dims)
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            external = self._external(proto, dtype, shape)
            return Constant(name, external, _without(proto, _TENSOR_CONTENT))
        try:
            values = numpy_helper.to_array(proto)
        except (ValueError, TypeError) as fault:
            raise ModelError(
                f"tensor {name!r}: its stored bytes do not fit {dtype} {list(shape)} ({fault}); "
                "the file is damaged or was written wrong"
            ) from fault
        values.flags.writeable = False
        return Constant(name, values, _without(proto, _TENSOR_CONTENT))

    def _external(
        self, proto: onnx.TensorProto, dtype: np.dtype, shape: tuple[int, ...]
    ) -> StoredArray | np.ndarray:
        if self.folder is None:
            raise ModelError(
                f"tensor {proto.name!r} lies in an external file, but the model has no path; "
                "load it with onnxcompress.load(path)"
            )
        place = locate(proto, self.folder, stored_bytes(shape, dtype))
        if place.length == 0:
            return np.empty(shape, dtype)
        if dtype.name in SUB_BYTE_BITS:
            return PackedArray(place=place, onnx_type=proto.data_type, shape=shape, dtype=dtype)
        return MappedArray(place=place, shape=shape, dtype=dtype)


_GRAPH_CONTENT = ("node", "initializer", "sparse_initializer", "input", "output", "value_info")
_NODE_CONTENT = ("op_type", "name", "domain", "input", "output", "attribute")
_TENSOR_CONTENT = tuple(
    field.name
    for field in onnx.TensorProto.DESCRIPTOR.fields
    if field.name not in ("doc_string", "metadata_props")
)


def _without(message: _Message, content: tuple[str, ...] = ()) -> _Message:
    """Empties the fields that the objects of `ir.model` hold themselves and copies what is left.

    A copy, because any reference into the original keeps all of its memory alive, weights included.
    """
    for field in content:
        message.ClearField(field)
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _variable(info: onnx.ValueInfoProto) -> Variable:
    if not info.HasField("type"):
        return Variable(info.name)
    return Variable(info.name, *_type_of(info), _without(info))


def _output(info: onnx.ValueInfoProto, scope: Mapping[str, Tensor]) -> Tensor:
    tensor = scope.get(info.name) or Variable(info.name)
    if isinstance(tensor, Variable) and info.HasField("type"):
        tensor.dtype, tensor.shape = _type_of(info)
        tensor.envelope = _without(info)
    return tensor


def _type_of(info: onnx.ValueInfoProto) -> tuple[np.dtype | None, Shape | None]:
    """Element type and shape of a tensor; (None, None) for sequences, maps and optionals."""
    if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.elem_type:
        return None, None
    tensor = info.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in tensor.shape.dim
        ]
    return _numpy_dtype(tensor.elem_type, info.name), shape


def _numpy_dtype(onnx_type: int, name: str) -> np.dtype:
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(onnx_type)
    except KeyError as fault:
        raise ModelError(
            f"tensor {name!r}: element type {onnx_type} is not one this version of onnx knows"
        ) from fault


def _sparse(proto: onnx.SparseTensorProto, name: str = "") -> Constant:
    name = name or proto.values.name
    dtype, shape = _numpy_dtype(proto.values.data_type, name), tuple(proto.dims)
    if stored_bytes(shape, dtype) > MAX_DENSE_BYTES:
        raise ModelError(f"sparse tensor {name!r}: {list(shape)} is over 2 GiB when spread out")
    return Constant(name, SparseArray(proto=_without(proto), shape=shape, dtype=dtype))


def _name_nodes(model: Model) -> None:
    """Gives nodes without a name, or with another's, one of their own: overrides go by name."""
    taken: set[str] = set()
    for _, node in model.nodes():
        base = node.name or f"{node.op}_{node.outputs[0].name if node.outputs else 'node'}"
        node.name = unique(base, taken)
        taken.add(node.name)
