"""Operators that ONNX itself defines by simpler ones, where no function is written here.

Source: the function bodies in `onnx.defs` (`has_function`, `has_context_dependent_function`), among
them SoftmaxCrossEntropyLoss, AffineGrid, CenterCropPad, LinearAttention.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import onnx
import torch
from onnx import inliner

from onnxcompress.distillation.call import Call
from onnxcompress.distillation.values import Value, torch_type
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import STANDARD, Graph, Node

_Types = tuple[tuple[int, int] | None, ...]
"""Element type and number of axes of each input; None for one that is omitted."""

_bodies: WeakKeyDictionary[Node, dict[_Types, Graph]] = WeakKeyDictionary()

_ELEMENT_TYPES = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BOOL,
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT16,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.UINT16,
    onnx.TensorProto.UINT32,
    onnx.TensorProto.UINT64,
)
"""Those a definition is written for; FLOAT first, as float64 may stand for it."""

_DOMAIN = "definition"
"""Where a definition stands while it is put in the node's place."""


def has_function_body(node: Node) -> bool:
    """Whether ONNX defines the node's operator by simpler ones."""
    return node.domain in STANDARD and _is_defined(node.op) and not any(node.bodies())


def run_function_body(call: Call, *inputs: Value) -> tuple[Value, ...]:
    """Runs the operator's definition.

    Raises:
        UnsupportedError: the definition does not hold for this operator set or these inputs.
    """
    types = tuple(_type(call, value) for value in inputs)
    bodies = _bodies.setdefault(call.node, {})
    if types not in bodies:
        bodies[types] = _body(call, types)
    given = [value for value in inputs if value is not None]
    found = iter(call.run_body(bodies[types], given))
    return tuple(next(found) if tensor.name else None for tensor in call.node.outputs)


@cache
def _is_defined(op: str) -> bool:
    if not onnx.defs.has(op):
        return False
    schema: Any = onnx.defs.get_schema(op)
    return bool(schema.has_function or schema.has_context_dependent_function)


def _type(call: Call, value: Value) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, torch.Tensor):
        raise call.unsupported("its definition is not run on sequences")
    return _element_type(call, value.dtype), value.dim()


def _element_type(call: Call, dtype: torch.dtype) -> int:
    for kind in _ELEMENT_TYPES:
        if torch_type(kind, call.precision) == dtype:
            return kind
    raise call.unsupported(f"its definition is not run on {dtype}")


def _body(call: Call, types: _Types) -> Graph:
    """The definition as a graph whose inputs are those the node has, in order."""
    names = [f"input {at}" if each else "" for at, each in enumerate(types)]
    outputs = [f"output {at}" if tensor.name else "" for at, tensor in enumerate(call.node.outputs)]
    try:
        schema = onnx.defs.get_schema(call.node.op, call.opset)
    except onnx.defs.SchemaError as fault:
        raise call.unsupported(f"opset {call.opset} has no such operator") from fault
    given = {n: a for n, a in call.node.attrs.items() if isinstance(a, onnx.AttributeProto)}
    node = onnx.helper.make_node(schema.name, names, outputs)
    node.attribute.extend(given.values())
    # The inliner leaves out what only the schema says.
    node.attribute.extend(
        each.default_value
        for name, each in schema.attributes.items()
        if name not in given and each.default_value.type
    )
    function = _definition(call, schema, node, types)
    node.domain = function.domain = _DOMAIN
    graph = onnx.helper.make_graph(
        [node],
        "definition",
        [onnx.ValueInfoProto(name=name) for name in names if name],
        [onnx.ValueInfoProto(name=name) for name in outputs if name],
    )
    opsets = [*function.opset_import, onnx.helper.make_opsetid(_DOMAIN, 1)]
    model = onnx.helper.make_model(graph, functions=[function], opset_imports=opsets)
    return import_model(inliner.inline_local_functions(model)).graph


def _definition(call: Call, schema: Any, node: onnx.NodeProto, types: _Types) -> onnx.FunctionProto:
    """The newest definition that the node's operator set may use.

    Args:
        call: the node's.
        schema: an `onnx.defs.OpSchema`, whose types leave out what it says of definitions.
        node: the node as a message.
        types: of its inputs.
    """
    fixed = [version for version in schema.function_opset_versions if version <= call.opset]
    if fixed:
        raw = schema.get_function_with_opset_version(max(fixed))
        return onnx.FunctionProto.FromString(raw)
    built = [
        version
        for version in schema.context_dependent_function_opset_versions
        if version <= call.opset
    ]
    if not built:
        raise call.unsupported(f"ONNX defines it by simpler ones only after opset {call.opset}")
    described = [
        onnx.helper.make_tensor_type_proto(each[0], [None] * each[1]) if each else onnx.TypeProto()
        for each in types
    ]
    raw = schema.get_context_dependent_function_with_opset_version(
        max(built), node.SerializeToString(), [each.SerializeToString() for each in described]
    )
    function = onnx.FunctionProto.FromString(raw)
    if not function.node:
        raise call.unsupported("ONNX defines it by simpler ones for fixed shapes only")
    return function
