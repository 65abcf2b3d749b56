"""Where the numbers of a computed shape come from.

A Reshape to [batch, 12, 64] is often a Concat of a measured length and stored ones. Once channels
are cut, stored numbers have to be rewritten, and measured ones follow by themselves. What is
computed from lengths that change (a head's size as width / heads) is left to be computed from the
lengths as they were, and the result is rewritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from onnxcompress.channels.numbers import windows
from onnxcompress.channels.space import Space
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor

_SHAPE_INPUTS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}

_PASSING = frozenset({"Unsqueeze", "Squeeze", "Cast", "Identity"})
"""Operators that keep the numbers of a shape, and their order."""


@dataclass(frozen=True)
class Stored:
    """A stored number: element `index` of the input `place` of `node`."""

    node: Node
    place: int
    index: int
    value: int


@dataclass(frozen=True)
class Measured:
    """The length of an axis, taken by a Shape node as the model runs."""

    node: Node
    tensor: Tensor
    axis: int


def shape_input(node: Node) -> int | None:
    """The input that gives the shape of the result; None if there is none."""
    place = _SHAPE_INPUTS.get(node.op)
    if "axes" in node.attrs:  # a Resize of some axes alone
        return None
    return place if place is not None and query.has_input(node, place) else None


def trace(space: Space, node: Node, place: int, index: int) -> Stored | Measured | None:
    """Where element `index` of the shape at an input of a node comes from; None if unclear."""
    tensor = node.inputs[place]
    if isinstance(tensor, Constant):
        return Stored(node, place, index, int(tensor.values.reshape(-1)[index]))
    writer = query.producer(tensor)
    if writer is None:
        return None
    if writer.op in _PASSING:
        return trace(space, writer, 0, index)
    if writer.op == "Concat":
        for part, each in enumerate(writer.inputs):
            length = space.shape(each)[0] if space.knows(each) else None
            if length is None:
                return None
            if index < length:
                return trace(space, writer, part, index)
            index -= length
        return None
    return _of_shape(space, writer, index)


Changed = tuple[Tensor, tuple[tuple[int, int], ...]]
"""A shape and the numbers in it that are to be others: pairs of an index and a value."""


def retell(
    space: Space,
    edit: Editor,
    tensor: Tensor,
    changed: Mapping[int, int],
    told: dict[Changed, Tensor],
) -> Tensor:
    """A shape as another, some of whose stored numbers differ.

    The nodes that put it together are copied: others may read them that need the old numbers.

    Args:
        space: of the model.
        edit: takes the copies.
        tensor: the shape as it is.
        changed: new numbers by index, all of which `trace` finds stored.
        told: what was made before, to be shared by all that need the same.
    """
    key = tensor, tuple(sorted(changed.items()))
    if key in told:
        return told[key]
    writer = query.producer(tensor)
    if isinstance(tensor, Constant) or writer is None:
        assert isinstance(tensor, Constant)
        values = tensor.values.copy()
        values.reshape(-1)[list(changed)] = list(changed.values())
        told[key] = edit.constant(tensor.name, values)
        return told[key]
    inputs = list(writer.inputs)
    start = 0
    for part, each in enumerate(inputs if writer.op == "Concat" else inputs[:1]):
        length = space.shape(each)[0] if writer.op == "Concat" else max(changed) + 1
        own = {i - start: value for i, value in changed.items() if start <= i < start + length}
        if own:
            inputs[part] = retell(space, edit, each, own, told)
        start += length
    attrs = {
        name: onnx.helper.get_attribute_value(value)
        for name, value in writer.attrs.items()
        if isinstance(value, onnx.AttributeProto)
    }
    told[key] = edit.add(
        writer.op,
        inputs,
        near=writer,
        base=tensor.name,
        attrs=attrs,
        dtype=tensor.dtype,
        shape=tensor.shape,
    )
    return told[key]


def _of_shape(space: Space, node: Node, index: int) -> Measured | None:
    if node.op == "Shape":
        x = node.inputs[0]
        if not space.knows(x):
            return None
        start = node.int_attr("start", 0)
        return Measured(node, x, (start if start >= 0 else start + space.rank(x)) + index)
    source = query.producer_of(node.inputs[0], "Shape") if node.inputs else None
    if source is None:
        return None
    whole = _of_shape(space, source, 0)
    if whole is None:
        return None
    count = space.rank(whole.tensor) - whole.axis
    picked = picks(node, count)
    if picked is None or index >= len(picked):
        return None
    return Measured(whole.node, whole.tensor, whole.axis + int(picked[index]))


def picks(node: Node, count: int) -> np.ndarray | None:
    """Which of `count` numbers a Gather or Slice takes; None if it is neither or not stored."""
    numbers: np.ndarray = np.arange(count)
    if node.op == "Gather" and (stored := query.constant(node, 1)) is not None:
        return np.asarray(numbers[stored.values.reshape(-1)])
    if node.op == "Slice":
        parts = [query.constant(node, place) for place in range(1, len(node.inputs))]
        bounds = [None if each is None else each.values for each in parts]
        if all(part is not None for part in parts):
            return numbers[windows(node, bounds, 1).get(0, slice(None))]
    return None


def lengths_used(
    model: Model, node: Node, rank: int, follows: Callable[[Node, int], bool]
) -> set[int]:
    """Axes whose length, taken by a Shape node, decides more than shapes that follow by themselves.

    Args:
        model: holds the node.
        node: a Shape node.
        rank: of what it reads.
        follows: whether the shape at an input of a node is right once channels are cut.
    """
    axes = list(range(rank))[node.int_attr("start", 0) : node.int_attr("end", rank)]
    used: set[int] = set()
    waiting: list[tuple[Tensor, list[int]]] = [(node.outputs[0], axes)]
    seen: set[tuple[Tensor, tuple[int, ...]]] = set()
    while waiting:
        tensor, axes = waiting.pop()
        if (tensor, tuple(axes)) in seen:
            continue
        seen.add((tensor, tuple(axes)))
        if model.is_output(tensor):
            used.update(axes)
        for reader in query.consumers(tensor):
            place = shape_input(reader)
            if place is not None and reader.inputs[place] is tensor and follows(reader, place):
                continue
            result = reader.outputs[0] if reader.outputs else None
            if result is None:
                continue
            if reader.op in _PASSING or reader.op == "Concat":  # of which any may be picked later
                waiting.append((result, axes))
            elif tensor is node.outputs[0] and (picked := picks(reader, len(axes))) is not None:
                waiting.append((result, [axes[place] for place in picked]))
            else:
                used.update(axes)
    return used


Ratio = tuple[int, int]
"""What stays of a length, and all of it."""


def rescale(
    edit: Editor, tensor: Tensor, count: int, ratios: Mapping[int, Ratio], near: Node
) -> Tensor:
    """Numbers of which some are multiplied by ratios that leave them whole.

    Args:
        edit: takes the nodes.
        tensor: int64 [count], what a shape says.
        count: how many numbers there are.
        ratios: by index.
        near: a node of the same graph.
    """
    for op, part in (("Mul", 0), ("Div", 1)):
        factors = np.ones(count, np.int64)
        factors[list(ratios)] = [ratio[part] for ratio in ratios.values()]
        stored = edit.shared(f"{tensor.name}_{op}", factors)
        tensor = edit.add(op, [tensor, stored], near=near, base=tensor.name, dtype=factors.dtype)
    return tensor
