"""ONNX protobuf -> `Model`. Constant nodes become stored tensors; every node gets a unique name."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from google.protobuf.message import Message

from onnxcompress.allowance import Allowance, bytes_for_model
from onnxcompress.errors import ModelError
from onnxcompress.ir import elements
from onnxcompress.ir.external import locate
from onnxcompress.ir.inline import inline_functions
from onnxcompress.ir.model import (
    STANDARD,
    Constant,
    Graph,
    Model,
    Node,
    Shape,
    Tensor,
    Variable,
)
from onnxcompress.ir.names import unique
from onnxcompress.ir.sparse import read_sparse, refuse_external
from onnxcompress.ir.stored import (
    SUB_BYTE_BITS,
    MappedArray,
    PackedArray,
    StoredArray,
    stored_bytes,
)
from onnxcompress.ir.to_proto import store_inside
from onnxcompress.ir.well_formed import require_well_formed

_Message = TypeVar("_Message", bound=Message)

_MOST_TIMES_NAMED = 16  # layers that share their weights name them once each
_LITTLE = 64 << 20

_SCALAR_CONSTANTS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def import_model(proto: onnx.ModelProto, path: Path | None = None) -> Model:
    """Builds a `Model` and empties `proto` on the way, so that no weight is held twice for long.

    Args:
        proto: the message; its graph is consumed, the functions it defines are inlined.
        path: the file it came from; external data is looked for beside it and nowhere else.

    Raises:
        ModelError: a tensor's stored bytes do not fit its type and shape, or lie elsewhere.
    """
    try:
        notes = inline_functions(proto)
    except UnicodeDecodeError as fault:
        raise ModelError("a name in a function is not UTF-8 text; the file is damaged") from fault
    opsets = {"" if e.domain in STANDARD else e.domain: e.version for e in proto.opset_import}
    importer = _Importer(path, proto.ir_version, opsets)
    graph = importer.graph(proto.graph, {})
    for function in proto.functions:
        for attr in (attr for node in function.node for attr in node.attribute):
            importer.read_in(attr)
    importer.require_bounded()
    if importer.mute:
        notes = (*notes, f"{importer.mute} nodes without outputs were left out")
    files = importer.files | ({path.resolve()} if path else set())
    model = Model(graph, _without(proto, ("graph",)), path, files, notes)
    _name_nodes(model)
    return model


class _Importer:
    def __init__(self, path: Path | None, ir_version: int, opsets: Mapping[str, int]):
        self.path = path
        self.opsets = opsets
        self.files: set[Path] = set()
        self.ir_version = ir_version
        stored = path.stat().st_size if path and path.is_file() else 0
        self.spread_out = Allowance(bytes_for_model(stored), ModelError)
        self.external_bytes = 0
        self.mute = 0

    def require_bounded(self) -> None:
        """Refuses files whose bytes are named over and over, far more often than tied weights are.

        Raises:
            ModelError: its tensors are many times what is stored.
        """
        stored = sum(file.stat().st_size for file in self.files)
        if self.external_bytes > _MOST_TIMES_NAMED * stored + _LITTLE:
            raise ModelError(
                f"its tensors name {self.external_bytes} bytes in external files of {stored}: the "
                f"same ones over and over, which is refused"
            )

    def graph(self, proto: onnx.GraphProto, outer: Mapping[str, Tensor]) -> Graph:
        _check_text(*(dense.name for dense in proto.initializer))
        for info in (*proto.input, *proto.output, *proto.value_info):
            _check_text(info.name)
        for node in proto.node:
            _check_text(node.op_type, node.name, node.domain, *node.input, *node.output)
            _check_text(*(attr.name for attr in node.attribute))
        described = {info.name: info for info in proto.value_info}
        local: dict[str, Tensor] = {}

        def define(tensor: Tensor, origin: str) -> None:
            if local.setdefault(tensor.name, tensor) is not tensor:
                raise ModelError(
                    f"tensor {tensor.name!r} has two producers (one is {origin}); "
                    "export the model again with unique names"
                )

        weights: dict[str, Constant] = {}
        for constant in self.initializers(proto):
            define(constant, "an initializer")
            weights[constant.name] = constant
        inputs: list[Variable] = []
        defaults: dict[str, Constant] = {}
        for info in proto.input:
            if info.name in weights:
                if self.ir_version < 4:  # the inputs list had to repeat every initializer
                    continue
                # A caller may override the stored value, so it is no constant.
                defaults[info.name] = weights.pop(info.name)
                del local[info.name]
            inputs.append(_variable(info))
            define(inputs[-1], "a graph input")
        returned = {info.name for info in proto.output}
        kept: list[onnx.NodeProto] = []
        # A node may stand before its producer in a file: all outputs exist before any node does.
        for node in proto.node:
            if not any(node.output):  # whatever it computes, nobody can read it
                self.mute += 1
                continue
            lifted = None if returned.intersection(node.output) else self.lifted(node)
            if lifted is not None:
                define(lifted, f"node {node.name!r}, Constant")
                weights[lifted.name] = lifted
                continue
            kept.append(node)
            for name in filter(None, node.output):
                variable = _variable(described.get(name, onnx.ValueInfoProto(name=name)))
                define(variable, f"node {node.name!r}, {node.op_type}")
        scope = {**outer, **local}

        nodes = [self.node(node, scope) for node in kept]
        for made in nodes:
            require_well_formed(made, self.opsets.get("", 1))
        given = {tensor.name for tensor in inputs}
        outputs = [_output(info, scope, given | outer.keys()) for info in proto.output]
        graph = Graph(_without(proto, _GRAPH_CONTENT))
        graph.inputs = inputs
        graph.initializers = list(weights.values())
        graph.defaults = defaults
        graph.nodes, graph.outputs = nodes, outputs
        return graph

    def initializers(self, proto: onnx.GraphProto) -> Iterator[Constant]:
        """The stored tensors of a graph, dense ones first."""
        for dense in proto.initializer:
            yield self.constant(dense.name, dense)
        for sparse in proto.sparse_initializer:
            yield self.sparse(sparse)

    def sparse(self, proto: onnx.SparseTensorProto, name: str = "") -> Constant:
        """A sparse tensor; whoever reads it makes it dense, so that is what is counted."""
        constant = _sparse(proto, name)
        needed = stored_bytes(tuple(constant.shape), constant.dtype)
        self.spread_out.take(needed, f"sparse tensor {constant.name!r} spread out")
        return constant

    def node(self, proto: onnx.NodeProto, scope: dict[str, Tensor]) -> Node:
        attrs: dict[str, onnx.AttributeProto | Graph] = {}
        for attr in proto.attribute:
            if attr.type == onnx.AttributeProto.GRAPHS:
                raise ModelError(
                    f"node {proto.name!r} ({proto.op_type}): attribute {attr.name!r} is a list of "
                    "graphs, which no standard operator uses and onnxcompress does not read"
                )
            if attr.type == onnx.AttributeProto.GRAPH:
                attrs[attr.name] = self.graph(attr.g, scope)
            else:
                attrs[attr.name] = self.attribute(attr)

        def tensor(name: str) -> Tensor:
            # A name that nothing defines stays dangling here; verification reports it with context.
            return scope.setdefault(name, Variable(name)) if name else Variable("")

        return Node(
            proto.op_type,
            proto.name,
            attrs,
            [tensor(name) for name in proto.input],
            [tensor(name) for name in self.outputs(proto)],
            proto.domain,
            _without(proto, _NODE_CONTENT),
        )

    def outputs(self, proto: onnx.NodeProto) -> list[str]:
        """The outputs of a node without those behind the last that is wanted, if it can do without.

        Unnamed ones mean the same as none, but not to all who count outputs: onnxruntime takes a
        BatchNormalization before opset 14 with five for one that trains, and crashes.
        """
        names = list(proto.output)
        if not names or names[-1]:
            return names
        domain = "" if proto.domain in STANDARD else proto.domain
        version = self.opsets.get(domain, 1)
        if not onnx.defs.has(proto.op_type, version, domain):
            return names
        formal = onnx.defs.get_schema(proto.op_type, version, domain).outputs
        optional = [
            each.option == onnx.defs.OpSchema.FormalParameterOption.Optional for each in formal
        ]
        while len(names) <= len(optional) and not names[-1] and optional[len(names) - 1]:
            names.pop()
        return names

    def attribute(self, proto: onnx.AttributeProto) -> onnx.AttributeProto:
        """A copy whose tensors, if they lie in external files, were read into it."""
        attr = _without(proto)
        self.read_in(attr)
        return attr

    def read_in(self, attr: onnx.AttributeProto) -> None:
        """Replaces references to external files by what lies there."""
        for tensor in (attr.t, *attr.tensors, *attr.g.initializer):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.CopyFrom(store_inside(self.constant(tensor.name, tensor)))
        for sparse in (attr.sparse_tensor, *attr.sparse_tensors):
            refuse_external(sparse)
        for inner in (inner for node in attr.g.node for inner in node.attribute):
            self.read_in(inner)

    def lifted(self, node: onnx.NodeProto) -> Constant | None:
        """The stored tensor that a Constant node stands for; None for any other node."""
        if node.op_type != "Constant" or node.domain not in STANDARD:
            return None
        if len(node.attribute) != 1 or len(node.output) != 1 or not node.output[0]:
            return None
        attr, name = node.attribute[0], node.output[0]
        if attr.ref_attr_name:  # bound when a function is called
            return None
        if attr.name == "value":
            return self.constant(name, attr.t)
        if attr.name == "sparse_value":
            return self.sparse(attr.sparse_tensor, name)
        if attr.name in _SCALAR_CONSTANTS:
            value = onnx.helper.get_attribute_value(attr)
            try:
                return Constant(name, np.array(value, _SCALAR_CONSTANTS[attr.name]))
            except (TypeError, ValueError, OverflowError) as fault:
                raise ModelError(
                    f"node {node.name!r} (Constant): {attr.name!r} is of another type than its name"
                ) from fault
        return None  # strings stay what they are

    def constant(self, name: str, proto: onnx.TensorProto) -> Constant:
        dtype = _numpy_dtype(proto.data_type, name)
        shape = _shape(proto.dims, name)
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            external = self._external(proto, dtype, shape)
            return Constant(name, external, _without(proto, _TENSOR_CONTENT))
        try:
            values = elements.to_array(proto)
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
        if self.path is None:
            raise ModelError(
                f"tensor {proto.name!r} lies in an external file, but the model has no path; "
                "load it with onnxcompress.load(path)"
            )
        if dtype.kind == "O":
            raise ModelError(f"tensor {proto.name!r}: strings cannot lie in an external file")
        place = locate(proto, self.path, stored_bytes(shape, dtype))
        self.files.add(place.path)
        self.external_bytes += place.length
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
    says_more = any(field.name != "name" for field, _ in info.ListFields())
    return Variable(info.name, *_type_of(info), _without(info) if says_more else None)


def _output(
    info: onnx.ValueInfoProto, scope: Mapping[str, Tensor], described: Container[str]
) -> Tensor:
    """The tensor a graph returns; what the file says of it here holds unless it is `described`."""
    tensor = scope.get(info.name) or Variable(info.name)
    if isinstance(tensor, Variable) and info.name not in described:
        declared = _variable(info)
        if declared.envelope is not None:
            tensor.dtype, tensor.shape = declared.dtype, declared.shape
            tensor.envelope = declared.envelope
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
        return elements.dtype_of(onnx_type)
    except KeyError as fault:
        raise ModelError(
            f"tensor {name!r}: element type {onnx_type} is not one this version of onnx knows"
        ) from fault


def _sparse(proto: onnx.SparseTensorProto, name: str = "") -> Constant:
    name = name or proto.values.name
    _numpy_dtype(proto.values.data_type, name)
    return Constant(name, read_sparse(proto, _shape(proto.dims, name), name))


def _check_text(*names: str) -> None:
    for name in names:
        if not isinstance(name, str):  # protobuf hands out what is not UTF-8 as bytes
            raise ModelError(f"the name {name!r} is not UTF-8 text; the file is damaged")


def _shape(dims: Iterable[int], name: str) -> tuple[int, ...]:
    shape = tuple(dims)
    if any(length < 0 for length in shape):
        raise ModelError(f"tensor {name!r}: shape {list(shape)} holds a negative length")
    return shape


def _name_nodes(model: Model) -> None:
    """Gives nodes without a name, or with another's, one of their own: overrides go by name."""
    taken: set[str] = set()
    nameless: list[Node] = []
    for _, node in model.nodes():
        if not node.name or node.name in taken:
            nameless.append(node)
        taken.add(node.name)
    for node in nameless:
        base = node.name or f"{node.op}_{node.outputs[0].name if node.outputs else 'node'}"
        node.name = unique(base, taken)
        taken.add(node.name)
