"""Removes nodes that hand on what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node
from onnxcompress.pass_base import EXCLUDED, Context, Pass, TensorType

_Types = Mapping[str, TensorType]
_IsNoOp = Callable[[Node, _Types], bool]


@dataclass(frozen=True, kw_only=True)
class RemoveNoOps(Pass):
    """Identity(x)  ->  x.

    Also Dropout at inference, Cast to the same type, Transpose that moves nothing or undoes the one
    before it, Reshape of a Reshape, Pad by zero, Concat and Sum of one tensor, x * 1, x / 1, x + 0
    and x - 0.
    """

    name: ClassVar[str] = "remove-noops"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        candidates = query.nodes(model, {*_NO_OPS, "Reshape", "Transpose"})
        types = context.types(model) if candidates else {}
        for node in candidates:
            if self.at(node) is None:
                edit.skip(node, EXCLUDED)
            elif node.op in _NO_OPS and _NO_OPS[node.op](node, types):
                if model.is_output(node.outputs[0]) and not node.inputs[0].inputs:
                    edit.skip(node, "gives a graph input or stored tensor the name of an output")
                elif _crosses_graphs(model, node):
                    edit.skip(node, "is how a body returns a tensor from outside")
                else:
                    edit.bypass(node)
            elif node.op == "Transpose":
                _merge_transposes(model, edit, node)
            elif node.op == "Reshape":
                _merge_reshapes(model, edit, node)


def _same_type(node: Node, types: _Types) -> bool:
    source = types.get(node.inputs[0].name)
    wanted = onnx.helper.tensor_dtype_to_np_dtype(node.int_attr("to", 0))
    return source is not None and source.dtype == wanted


def _inference_dropout(node: Node, _: _Types) -> bool:
    mask_unused = len(node.outputs) == 1 or not node.outputs[1].outputs
    training = query.constant(node, 2)
    off = not query.has_input(node, 2) or (training is not None and not training.values.any())
    return mask_unused and off


def _keeps_order(node: Node, _: _Types) -> bool:
    perm = node.ints_attr("perm")
    return bool(perm) and perm == tuple(range(len(perm)))


def _pads_nothing(node: Node, _: _Types) -> bool:
    pads = query.constant(node, 1)
    return pads is not None and not pads.values.any()


def _single(node: Node, _: _Types) -> bool:
    return len(node.inputs) == 1


def _neutral(element: int) -> _IsNoOp:
    """x op `element` = x, where the element does not widen x by broadcasting."""

    def check(node: Node, types: _Types) -> bool:
        other = query.constant(node, 1)
        source = types.get(node.inputs[0].name)
        if other is None or source is None or other.dtype.kind not in "fiu":
            return False
        fits = other.size == 1 and len(other.shape) <= len(source.shape)
        return fits and bool(np.all(other.values == element))

    return check


_NO_OPS: dict[str, _IsNoOp] = {
    "Identity": lambda *_: True,
    "Dropout": _inference_dropout,
    "Cast": _same_type,
    "Transpose": _keeps_order,
    "Pad": _pads_nothing,
    "Concat": _single,
    "Sum": _single,
    "Max": _single,
    "Min": _single,
    "Mean": _single,
    "Mul": _neutral(1),
    "Div": _neutral(1),
    "Add": _neutral(0),
    "Sub": _neutral(0),
}


def _crosses_graphs(model: Model, node: Node) -> bool:
    """Whether removing the node would make a body return a tensor of the graph around it."""
    if not model.is_output(node.outputs[0]):
        return False
    graph = next(graph for graph in model.graphs() if node in graph.nodes)
    return node.inputs[0].inputs[0] not in graph.nodes


def _merge_transposes(model: Model, edit: Editor, node: Node) -> None:
    first = query.producer_of(node.inputs[0], "Transpose")
    if first is None:
        return
    outer, inner = node.ints_attr("perm"), first.ints_attr("perm")
    if not outer or not inner:
        return
    perm = [inner[axis] for axis in outer]
    if perm == sorted(perm) and not model.is_output(node.outputs[0]):
        edit.redirect(node.outputs[0], first.inputs[0])
        edit.remove(node)
    else:
        edit.set_attribute(node, "perm", perm)
        edit.set_input(node, 0, first.inputs[0], f"merged with {first.name}")


def _merge_reshapes(model: Model, edit: Editor, node: Node) -> None:
    del model
    first = query.producer_of(node.inputs[0], "Reshape")
    shape = query.constant(node, 1)
    if first is None or shape is None:
        return
    if (shape.values == 0).any():  # copies lengths from the tensor between the two
        return
    edit.set_input(node, 0, first.inputs[0], f"merged with {first.name}")
