"""How a Reshape ties the axes it merges or divides.

Where one axis becomes several, or several one, only one of the several can lose slots: with heads
of one width in a row, whole heads (the outer axis) or one column of every head (the inner one).
Which is a choice; the outer one is tried first, see `Choices`.

Source: ONNX Reshape (opset 5-25), Flatten (1-25), Squeeze (1-25), Unsqueeze (1-25).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxcompress.channels.space import Axis, Space
from onnxcompress.ir.model import Node

Part = tuple[list[Axis], list[Axis]]
"""Axes that hold the same elements before and after."""


@dataclass
class Choices:
    """Which of several axes may lose slots, by node and part; the first where nothing is said."""

    chosen: dict[tuple[Node, int], int] = field(default_factory=dict)
    open: dict[tuple[Node, int], list[np.ndarray]] = field(default_factory=dict)

    def advance(self, labels: np.ndarray, fixed: np.ndarray) -> bool:
        """Takes the next axis wherever the chosen one turned out to be fixed.

        Choices that concern the same channels change one after another: a channel shuffle divides
        and merges, and both must choose the same axis.

        Args:
            labels: int64 by slot, its component.
            fixed: bool by slot.

        Returns:
            Whether any choice changed.
        """
        moved: set[int] = set()
        for key, candidates in self.open.items():
            at = self.chosen.get(key, 0)
            if at + 1 == len(candidates) or not fixed[candidates[at]].all():
                continue
            concerned = set(labels[np.concatenate(candidates)].tolist())
            if moved.isdisjoint(concerned):
                self.chosen[key] = at + 1
                moved |= concerned
        self.open.clear()
        return bool(moved)


def tie_reshape(space: Space, node: Node, choices: Choices) -> None:
    """Ties what a Reshape, Flatten, Squeeze or Unsqueeze reads and writes."""
    x, y = node.inputs[0], node.outputs[0]
    for number, (before, after) in enumerate(parts(space.axes_of(x), space.axes_of(y))):
        if len(before) == len(after) == 1:
            space.move(node, before[0].slots, after[0].slots)
        elif len(after) == 1:
            _choose(space, node, number, before, after[0], choices, merges=True)
        elif len(before) == 1:
            _choose(space, node, number, after, before[0], choices, merges=False)
        else:
            for axis in [*before, *after]:
                space.fix(axis.slots, f"{node.op} {node.name!r} mixes it with other axes")


def parts(before: Sequence[Axis], after: Sequence[Axis]) -> Iterator[Part]:
    """Divides the axes of both sides, those of length 1 left out, into parts of equal size."""
    left = [axis for axis in before if axis.length != 1]
    right = [axis for axis in after if axis.length != 1]
    while left and right:
        ours, theirs = [left.pop(0)], [right.pop(0)]
        while (a := _size(ours)) != (b := _size(theirs)):
            if a < b and left:
                ours.append(left.pop(0))
            elif b < a and right:
                theirs.append(right.pop(0))
            else:  # an empty tensor
                return
        yield ours, theirs


def _choose(
    space: Space,
    node: Node,
    number: int,
    several: list[Axis],
    one: Axis,
    choices: Choices,
    *,
    merges: bool,
) -> None:
    lengths = [axis.length for axis in several]
    choices.open[node, number] = [axis.slots for axis in several]
    chosen = choices.chosen.get((node, number), 0)
    for place, axis in enumerate(several):
        if place != chosen:
            space.fix(axis.slots, f"{node.op} {node.name!r} joins it with another axis")
            continue
        shape = [1] * len(lengths)
        shape[place] = axis.length
        spread = np.broadcast_to(axis.slots.reshape(shape), lengths).reshape(-1)
        source, target = (spread, one.slots) if merges else (one.slots, spread)
        space.move(node, source, target)


def _size(axes: list[Axis]) -> int:
    return math.prod(axis.length for axis in axes)
