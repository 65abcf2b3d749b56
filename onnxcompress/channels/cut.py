"""Cutting slots out of a graph: smaller weights, and the attributes that tell their sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onnxcompress.channels.movement import pads, slices
from onnxcompress.channels.pointwise import is_uniform
from onnxcompress.channels.shape_source import Changed, Stored, retell, shape_input, trace
from onnxcompress.channels.space import Space
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor


class Cut:
    """What stays of each axis once slots are gone.

    Args:
        space: of the model.
        kept: bool by slot.
    """

    def __init__(self, space: Space, kept: np.ndarray):
        self.space = space
        self._kept = kept

    def kept(self, tensor: Tensor, axis: int) -> np.ndarray:
        """Which slots of an axis stay, bool [length]."""
        found: np.ndarray = self._kept[self.space.axis(tensor, axis)]
        return found

    def touches(self, tensor: Tensor) -> bool:
        """Whether any axis of a tensor becomes shorter."""
        return self.space.knows(tensor) and any(
            not self._kept[axis.slots].all() for axis in self.space.axes_of(tensor)
        )

    def apply(self, model: Model, edit: Editor) -> None:
        """Cuts stored tensors and rewrites the numbers that nodes are told."""
        nodes = model.graph.nodes
        touched = [n for n in nodes if any(map(self.touches, [*n.inputs, *n.outputs]))]
        lengths = {n: self._lengths(n) for n in touched if n.domain in STANDARD}
        for node in touched:
            if node.op in _REWRITES and node.domain in STANDARD:
                _REWRITES[node.op](self, edit, node)
        told: dict[Changed, Tensor] = {}
        for node, changed in lengths.items():
            place = shape_input(node)
            if place is not None and changed:
                shape = retell(self.space, edit, node.inputs[place], changed, told)
                edit.set_input(node, place, shape, f"lengths by axis are now {changed}")
        self._shrink(touched, edit)

    def _lengths(self, node: Node) -> dict[int, int]:
        """What a shape that the node is given must say instead, by axis."""
        place = shape_input(node)
        changed: dict[int, int] = {}
        for axis in self.space.axes_of(node.outputs[0]) if place is not None else ():
            kept = self._kept[axis.slots]
            if place is None or kept.all():
                continue
            source = trace(self.space, node, place, axis.axis)
            # What is measured, inferred or copied follows by itself.
            if isinstance(source, Stored) and source.value > 0:
                changed[axis.axis] = int(kept.sum())
        return changed

    def _shrink(self, touched: list[Node], edit: Editor) -> None:
        smaller: dict[Constant, Constant] = {}
        for node in touched:
            for place, tensor in enumerate(list(node.inputs)):
                if isinstance(tensor, Constant) and self.touches(tensor):
                    if tensor not in smaller:
                        values = self._shrunk(tensor)
                        smaller[tensor] = edit.constant(tensor.name or f"{node.name}_cut", values)
                    shapes = f"{list(tensor.shape)} -> {list(smaller[tensor].shape)}"
                    edit.set_input(node, place, smaller[tensor], f"{tensor.name}: {shapes}")
            for output in node.outputs:
                if output.shape is not None and self.touches(output):
                    axes = self.space.axes_of(output)
                    known = zip(output.shape, axes, strict=True)
                    output.shape = [
                        int(self._kept[axis.slots].sum()) if isinstance(length, int) else length
                        for length, axis in known
                    ]
                    output.envelope = None  # what the file said of it held for the longer axes

    def _shrunk(self, tensor: Constant) -> np.ndarray:
        values = tensor.values
        for axis in self.space.axes_of(tensor):
            kept = self._kept[axis.slots]
            if not kept.all():
                values = np.compress(kept, values, axis=axis.axis)
        return np.ascontiguousarray(values)


Rewrite = Callable[[Cut, Editor, Node], None]


def _groups(cut: Cut, edit: Editor, node: Node) -> None:
    """A depthwise convolution has as many groups as channels."""
    channels = cut.kept(node.inputs[0], 1)
    if node.int_attr("group", 1) == len(channels) > 1:
        edit.set_attribute(node, "group", int(channels.sum()))


def _split(cut: Cut, edit: Editor, node: Node) -> None:
    axis = node.int_attr("axis", 0) % cut.space.rank(node.inputs[0])
    sizes = [int(cut.kept(part, axis).sum()) for part in node.outputs]
    if sum(sizes) == len(cut.kept(node.inputs[0], axis)):
        return
    if "split" in node.attrs or edit.model.opset < 13:
        edit.set_attribute(node, "split", sizes)
        return
    node.attrs.pop("num_outputs", None)
    edit.set_input(node, 1, edit.constant(f"{node.name}_split", np.array(sizes, np.int64)))


def _slice(cut: Cut, edit: Editor, node: Node) -> None:
    x = node.inputs[0]
    picked = slices(node, cut.space.rank(x))
    if picked is None:
        return
    bounds = []
    for axis, window in picked.items():
        kept = cut.kept(x, axis)
        if kept.all():
            bounds.append((window.start, window.stop if window.stop is not None else -(2**31)))
            continue
        start, stop, _ = window.indices(len(kept))
        bounds.append((int(kept[:start].sum()), int(kept[: max(start, stop)].sum())))
    starts, ends = [b[0] for b in bounds], [b[1] for b in bounds]
    if all(cut.kept(x, axis).all() for axis in picked):
        return
    if len(node.inputs) == 1:
        edit.set_attribute(node, "starts", starts)
        edit.set_attribute(node, "ends", ends)
        return
    for place, values in ((1, starts), (2, ends)):
        stored = query.constant(node, place)
        assert stored is not None
        edit.set_values(node, place, np.array(values, stored.dtype))


def _pad(cut: Cut, edit: Editor, node: Node) -> None:
    y = node.outputs[0]
    rank = cut.space.rank(y)
    amounts = pads(node, rank)
    if amounts is None:
        return
    before, behind = (list(side) for side in amounts)
    for axis in range(rank):
        kept = cut.kept(y, axis)
        if before[axis] > 0:
            before[axis] = int(kept[: before[axis]].sum())
        if behind[axis] > 0:
            behind[axis] = int(kept[len(kept) - behind[axis] :].sum())
    if (before, behind) == tuple(list(side) for side in amounts):
        return
    if len(node.inputs) == 1:
        edit.set_attribute(node, "pads", [*before, *behind])
        return
    if query.has_input(node, 3):
        axes = query.constant(node, 3)
        assert axes is not None
        chosen = [axis % rank for axis in axes.values.tolist()]
        before, behind = [before[axis] for axis in chosen], [behind[axis] for axis in chosen]
    edit.set_values(node, 1, np.array([*before, *behind], np.int64))


def _hidden_size(cut: Cut, edit: Editor, node: Node) -> None:
    kept = cut.kept(node.inputs[2], 2)
    if not kept.all() and "hidden_size" in node.attrs:
        edit.set_attribute(node, "hidden_size", int(kept.sum()))


def _zero_points(cut: Cut, edit: Editor, node: Node) -> None:
    """A vector of one number throughout was not tied: it is as long as the axis that it is for."""
    if node.int_attr("block_size", 0):
        return
    kept = cut.kept(node.inputs[0], node.int_attr("axis", 1)) if _has_axis(cut, node) else None
    for place, tensor in enumerate(list(node.inputs)[1:], 1):
        if kept is not None and not kept.all() and is_uniform(tensor):
            assert isinstance(tensor, Constant)
            edit.set_values(node, place, tensor.values[: int(kept.sum())])


def _has_axis(cut: Cut, node: Node) -> bool:
    return cut.space.rank(node.inputs[0]) > node.int_attr("axis", 1)


_REWRITES: Mapping[str, Rewrite] = {
    **dict.fromkeys(["Conv", "ConvTranspose"], _groups),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], _hidden_size),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], _zero_points),
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
}
