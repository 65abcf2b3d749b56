"""Cutting slots out of a graph: smaller weights, and the attributes that tell their sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from onnxcompress.channels.movement import pads, slices
from onnxcompress.channels.pointwise import is_uniform
from onnxcompress.channels.shape_source import (
    Changed,
    Measured,
    Ratio,
    Stored,
    lengths_used,
    rescale,
    retell,
    shape_input,
    trace,
)
from onnxcompress.channels.space import Axis, Space
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
        standard = [n for n in touched if n.domain in STANDARD]
        restored = {n: ratios for n in standard if (ratios := self._restored(model, n))}
        told = {n: self._told(n, restored) for n in standard}
        for node in standard:
            if node.op in _REWRITES:
                _REWRITES[node.op](self, edit, node)
        for node, ratios in restored.items():
            lengths = node.outputs[0]
            whole = rescale(edit, lengths, self.space.shape(lengths)[0], ratios, node)
            first = whole.inputs[0].inputs[0].inputs[0]
            edit.redirect(lengths, whole, keep=[first])
        shapes: dict[Changed, Tensor] = {}
        for node, (stored, scaled) in told.items():
            place = shape_input(node)
            if place is None or not (stored or scaled):
                continue
            shape = node.inputs[place]
            count = self.space.shape(shape)[0]
            if stored:
                shape = retell(self.space, edit, shape, stored, shapes)
            if scaled:
                shape = rescale(edit, shape, count, scaled, node)
            detail = f"lengths by axis are now {stored | {a: r[0] for a, r in scaled.items()}}"
            edit.set_input(node, place, shape, detail)
        self._shrink(touched, edit)

    def _ratio(self, tensor: Tensor, axis: int) -> Ratio:
        kept = self.kept(tensor, axis)
        divisor = math.gcd(int(kept.sum()), len(kept))
        return int(kept.sum()) // divisor, len(kept) // divisor

    def _told(
        self, node: Node, restored: Mapping[Node, object]
    ) -> tuple[dict[int, int], dict[int, Ratio]]:
        """What a shape that a node is given must say instead, by axis: numbers, and ratios.

        What is computed is a product of lengths, of which a part may stay: its heads' share of
        an axis that holds the heads of all samples, say. So that is scaled, whatever it is.
        """
        stored: dict[int, int] = {}
        scaled: dict[int, Ratio] = {}
        place = shape_input(node)
        if place is None:
            return stored, scaled
        now = self.space.numbers(node.inputs[place])
        for axis in self.space.axes_of(node.outputs[0]):
            kept = self._kept[axis.slots]
            if kept.all() or (now is not None and now[axis.axis] != axis.length):
                continue  # what is inferred (-1) or copied (0, or 1 of Expand) follows by itself
            source = trace(self.space, node, place, axis.axis)
            if isinstance(source, Stored):
                if source.value > 0:
                    stored[axis.axis] = int(kept.sum())
            elif not self._follows(source, axis, restored):
                scaled[axis.axis] = self._ratio(axis.tensor, axis.axis)
        return stored, scaled

    def _follows(
        self, source: Measured | None, axis: Axis, restored: Mapping[Node, object]
    ) -> bool:
        """Whether an axis takes its length from one that was cut alike."""
        if source is None or source.node in restored:
            return False
        return self._ratio(source.tensor, source.axis) == self._ratio(axis.tensor, axis.axis)

    def _restored(self, model: Model, node: Node) -> dict[int, Ratio]:
        """What the lengths that a Shape node tells must be multiplied by, to be as they were."""
        if node.op != "Shape":
            return {}
        x = node.inputs[0]
        start = node.int_attr("start", 0) % self.space.rank(x)
        used = lengths_used(model, node, self.space.rank(x), self._is_right)
        ratios = {axis: self._ratio(x, axis) for axis in sorted(used)}
        return {axis - start: (n, k) for axis, (k, n) in ratios.items() if k != n}

    def _is_right(self, node: Node, place: int) -> bool:
        """Whether all that a shape measures itself is as long as the axes it is for."""
        for axis in self.space.axes_of(node.outputs[0]):
            source = trace(self.space, node, place, axis.axis)
            if not isinstance(source, Stored) and not self._follows(source, axis, {}):
                return False
        return True

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
                    output.shape = [self._declared(length, axis) for length, axis in known]
                    output.envelope = None  # what the file said of it held for the longer axes

    def _declared(self, length: int | str | None, axis: Axis) -> int | str | None:
        """What is said of the length of an axis; a symbol held for axes that may stay as they were.

        onnxruntime gives tensors whose lengths have one name the same memory.
        """
        kept = self._kept[axis.slots]
        if kept.all():
            return length
        return int(kept.sum()) if isinstance(length, int) else None

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


def _normalized_groups(cut: Cut, edit: Editor, node: Node) -> None:
    kept = cut.kept(node.inputs[0], 1)
    count = node.int_attr("num_groups", 1)
    if not kept.all():
        edit.set_attribute(node, "num_groups", int(kept.sum()) * count // len(kept))


def _shared_vectors(cut: Cut, edit: Editor, node: Node) -> None:
    """A vector of one number throughout that was not tied is made as long as the channels."""
    kept = cut.kept(node.inputs[0], 1)
    for place, tensor in enumerate(list(node.inputs)[1:3], 1):
        if not kept.all() and not cut.touches(tensor):
            assert isinstance(tensor, Constant)
            edit.set_input(node, place, edit.shared(tensor.name, tensor.values[: kept.sum()]))


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
    picked = slices(cut.space, node)
    if picked is None or all(cut.kept(x, axis).all() for axis in picked):
        return
    bounds = []
    for axis, window in picked.items():
        kept = cut.kept(x, axis)
        if window is None:  # stored for another axis than this one, or none would be cut
            return
        if kept.all():
            bounds.append((window.start, window.stop if window.stop is not None else -(2**31)))
            continue
        start, stop, _ = window.indices(len(kept))
        bounds.append((int(kept[:start].sum()), int(kept[: max(start, stop)].sum())))
    starts, ends = [b[0] for b in bounds], [b[1] for b in bounds]
    if len(node.inputs) == 1:
        edit.set_attribute(node, "starts", starts)
        edit.set_attribute(node, "ends", ends)
        return
    for place, values in ((1, starts), (2, ends)):
        stored = query.constant(node, place)
        dtype = np.dtype(np.int64) if stored is None else stored.dtype
        edit.set_input(node, place, edit.constant(f"{node.name}_bound", np.array(values, dtype)))


def _pad(cut: Cut, edit: Editor, node: Node) -> None:
    y = node.outputs[0]
    rank = cut.space.rank(y)
    amounts = pads(cut.space, node)
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
    "GroupNormalization": _normalized_groups,
    "InstanceNormalization": _shared_vectors,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
}
