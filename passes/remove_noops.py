"""Removes nodes that hand on what they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import elements, query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.tensor_types import TensorTypes


class _Scene(TensorTypes):
    """The model as it was before the pass."""

    def __init__(self, model: Model, context: Context):
        super().__init__(model, context)
        self.model = model
        self.graph_of = {node: graph for graph, node in model.nodes()}


_Check = Callable[[Node, _Scene], int | str | None]
"""The input that a node hands on as it is; or why a candidate does not; None for others."""


@dataclass(frozen=True, kw_only=True)
class RemoveNoOps(Pass):
    """Identity(x)  ->  x.

    Also Dropout at inference, Cast to the same type, Transpose that moves nothing or undoes the one
    before it, Reshape of a Reshape, Pad by zero, Concat, Sum, Mean, Max and Min of one tensor,
    x * 1, x / 1, x + 0 and x - 0.
    """

    name: ClassVar[str] = "remove-noops"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        candidates = query.nodes(model, {*_CHECKS, *_MERGES})
        scene = _Scene(model, context)
        for node in candidates:
            if not node.inputs:  # it went with one before it
                continue
            verdict = _CHECKS[node.op](node, scene) if node.op in _CHECKS else None
            reason = verdict if isinstance(verdict, str) else None
            if self.at(node) is None:
                edit.skip(node, EXCLUDED)
                continue
            if isinstance(verdict, int):
                reason = _replace(edit, scene, node, node.inputs[verdict])
            elif verdict is None and node.op in _MERGES:
                reason = _MERGES[node.op](edit, scene, node)
            if reason is not None:
                edit.skip(node, reason)


def _replace(edit: Editor, scene: _Scene, node: Node, source: Tensor) -> str | None:
    """Lets `source` stand for what `node` writes; or says why it cannot."""
    output = node.outputs[0]
    if scene.model.is_output(output):
        producer = query.producer(source)
        if producer is None:
            return "gives a graph input or stored tensor the name of an output"
        if scene.model.is_output(source):
            return "a graph returns its input too, under another name"
        if scene.graph_of[producer] is not scene.graph_of[node]:
            return "is how a body returns a tensor from outside"
    edit.redirect(output, source)
    edit.remove(node)
    return None


def _cast(node: Node, scene: _Scene) -> int | str | None:
    dtype = scene.dtype(node.inputs[0])
    if dtype is None:
        return "the element type of its input is not known"
    same = elements.type_of(dtype) == node.int_attr("to", 0)
    return 0 if same else None


def _dropout(node: Node, scene: _Scene) -> int | str:
    training = query.constant(node, 2)
    if query.has_input(node, 2) and (training is None or training.values.any()):
        return "may drop at random: training_mode is not stored as false"
    if any(mask.outputs or scene.model.is_output(mask) for mask in node.outputs[1:]):
        return "its mask is read"
    return 0


def _transpose(node: Node, _: _Scene) -> int | None:
    perm = node.ints_attr("perm")
    return 0 if perm and perm == tuple(range(len(perm))) else None


def _pad(node: Node, _: _Scene) -> int | None:
    given = query.constant(node, 1)
    if given is None and "pads" not in node.attrs:  # an attribute before opset 11
        return None
    pads = node.ints_attr("pads") if given is None else given.values
    return None if np.any(pads) else 0


def _single(node: Node, _: _Scene) -> int | None:
    return 0 if len(node.inputs) == 1 else None


def _neutral(element: int, places: tuple[int, ...]) -> _Check:
    """For x op `element` = x, where the element, at one of `places`, does not widen x."""

    def check(node: Node, scene: _Scene) -> int | str | None:
        for place in places:
            operand, source = query.constant(node, place), node.inputs[1 - place]
            if operand is None or isinstance(source, Constant):
                continue
            if operand.dtype.kind not in "fiu" or not np.all(operand.values == element):
                continue
            if operand.size != 1:
                return f"its operand {list(operand.shape)} may widen the other"
            rank = scene.rank(source)
            if operand.shape and (rank is None or len(operand.shape) > rank):
                return f"its operand {list(operand.shape)} may add an axis"
            return 1 - place
        return None

    return check


_CHECKS: dict[str, _Check] = {
    "Identity": lambda *_: 0,
    "Dropout": _dropout,
    "Cast": _cast,
    "Transpose": _transpose,
    "Pad": _pad,
    **dict.fromkeys(("Concat", "Sum", "Mean", "Max", "Min"), _single),
    "Mul": _neutral(1, (1, 0)),
    "Div": _neutral(1, (1,)),
    "Add": _neutral(0, (1, 0)),
    "Sub": _neutral(0, (1,)),
}


def _merge_transposes(edit: Editor, scene: _Scene, node: Node) -> str | None:
    first = query.producer_of(node.inputs[0], "Transpose")
    if first is None:
        return None
    outer, inner = node.ints_attr("perm"), first.ints_attr("perm")
    reverse = range(len(outer or inner))[::-1]  # what no perm means
    perm = [(inner or reverse)[axis] for axis in (outer or reverse)]
    if perm == sorted(perm):
        return _replace(edit, scene, node, first.inputs[0])
    edit.set_attribute(node, "perm", perm)
    edit.set_input(node, 0, first.inputs[0], f"merged with {first.name}")
    return None


def _merge_reshapes(edit: Editor, _: _Scene, node: Node) -> str | None:
    first = query.producer_of(node.inputs[0], "Reshape")
    if first is None:
        return None
    shape = query.constant(node, 1)
    if shape is None:
        return f"the shape it gives to {first.name!r} is computed at run time"
    if not node.int_attr("allowzero", 0) and (shape.values == 0).any():
        return f"copies lengths (0) from {first.name!r}"
    edit.set_input(node, 0, first.inputs[0], f"merged with {first.name}")
    return None


_MERGES = {"Transpose": _merge_transposes, "Reshape": _merge_reshapes}
