"""Computes in float32 what a model stores and computes in another float."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx

from onnxcompress.ir import elements, query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor, Variable
from onnxcompress.pass_base import Context, Pass
from onnxcompress.qdq.other_floats import OTHER_FLOATS, floats_of_weights
from onnxcompress.tensor_types import TensorTypes

_FLOAT = np.dtype(np.float32)
_FLOAT_TYPE = int(onnx.TensorProto.FLOAT)
_TYPED_BY = ("to", "dtype", "output_datatype", "output_dtype", "softmax_precision")
"""Attributes that name an element type."""


@dataclass(frozen=True, kw_only=True)
class UseFloat32(Pass):
    """MatMul(x, W), float16  ->  Cast(MatMul(Cast(x), W)), float32.

    For models in float16, bfloat16 or double: what their weights are stored in becomes float32
    throughout, with Casts at the inputs and outputs, which keep names and types. onnxruntime's CPU
    provider has few kernels for those and computes in float32 between Casts of its own, so this is
    as exact and faster; and it is what all other passes need. convert-float stores what is left of
    the weights small again. Inputs with stored values stay as they are, behind a Cast.
    """

    name: ClassVar[str] = "use-float32"

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        others = floats_of_weights(model)
        if not others:
            return
        types = TensorTypes(model, context)
        given = [each for each in model.graph.inputs if each.dtype in others]
        returned = [
            output
            for output in dict.fromkeys(model.graph.outputs)
            if isinstance(output, Variable) and output.inputs and output.dtype in others
        ]
        idle = [node for node in query.nodes(model, {"Cast"}) if _is_idle(node, types, others)]
        for graph, node in list(model.nodes()):
            del graph
            _retype(edit, node, others)
        widened: dict[Tensor, Tensor] = {}
        for _, node in list(model.nodes()):
            for index, tensor in enumerate(list(node.inputs)):
                if isinstance(tensor, Constant) and tensor.dtype in others:
                    if tensor not in widened:
                        widened[tensor] = _widened(edit, tensor)
                    edit.set_input(node, index, widened[tensor], f"{tensor.name} as float32")
        for graph in model.graphs():
            if graph is not model.graph:
                graph.outputs[:] = [_of_body(edit, each, others, widened) for each in graph.outputs]
                for each in graph.inputs:
                    _declare(each, others)
            for node in graph.nodes:
                for output in node.outputs:
                    if output not in returned:
                        _declare(output, others)
        for tensor in given:
            _read_cast(edit, tensor)
        for output in returned:
            _return_cast(edit, output)
        for node in idle:
            edit.bypass(node)


def _retype(edit: Editor, node: Node, others: Collection[np.dtype]) -> None:
    """Lets a node whose attributes set an element type give float32."""
    for name in _TYPED_BY:
        code = node.int_attr(name, 0)
        if code and _dtype(code) in others:
            edit.set_attribute(node, name, _FLOAT_TYPE)
    value = query.tensor_attribute(node, "value")
    if node.op == "ConstantOfShape" and value is not None and value.dtype in others:
        edit.set_attribute(node, "value", elements.from_array(value.astype(_FLOAT), "value"))


def _dtype(code: int) -> np.dtype | None:
    return {int(each): dtype for dtype, each in OTHER_FLOATS.items()}.get(code)


def _is_idle(cast: Node, types: TensorTypes, others: Collection[np.dtype]) -> bool:
    """Whether a Cast goes from one float to another of which both become float32."""
    floats = (*others, _FLOAT)
    to = cast.int_attr("to", 0)
    return types.dtype(cast.inputs[0]) in floats and (to == _FLOAT_TYPE or _dtype(to) in others)


def _widened(edit: Editor, constant: Constant) -> Constant:
    with np.errstate(over="ignore"):
        return edit.constant(constant.name, constant.values.astype(_FLOAT))


def _of_body(
    edit: Editor, tensor: Tensor, others: Collection[np.dtype], widened: dict[Tensor, Tensor]
) -> Tensor:
    if not isinstance(tensor, Constant) or tensor.dtype not in others:
        return tensor
    if tensor not in widened:
        widened[tensor] = _widened(edit, tensor)
    return widened[tensor]


def _declare(tensor: Variable, others: Collection[np.dtype]) -> None:
    if tensor.dtype in others:
        tensor.dtype, tensor.envelope = _FLOAT, None


def _read_cast(edit: Editor, tensor: Variable) -> None:
    """Everything but a graph's output reads an input as float32."""
    readers = query.consumers(tensor)
    if not readers:
        return
    near = next(iter(edit.model.graph.nodes))
    base, to = f"{tensor.name}_float32", {"to": _FLOAT_TYPE}
    wide = edit.add(
        "Cast", [tensor], near=near, base=base, attrs=to, dtype=_FLOAT, shape=tensor.shape
    )
    edit.redirect(tensor, wide, keep=wide.inputs)


def _return_cast(edit: Editor, output: Variable) -> None:
    """The graph returns what it returned, in name and type; its readers go on in float32."""
    assert output.dtype is not None
    dtype, shape = output.dtype, output.shape
    narrow = edit.add(
        "Cast",
        [output],
        near=output.inputs[0],
        base=f"{output.name}_float32",
        attrs={"to": OTHER_FLOATS[dtype]},
        dtype=dtype,
        shape=shape,
    )
    edit.redirect(output, narrow, keep=query.consumers(output))
    output.dtype, output.envelope = _FLOAT, None
