"""How a Reshape ties the axes it merges or divides.

Where one axis becomes several, or several one, only one of the several can lose slots: with heads
of one width in a row, whole heads (the outer axis) or one column of every head (the inner one).
Which is a choice; the outer one is tried first, see `Choices`. Where several become several, as
channels and pixels become groups and what is in them, a factor can that two axes have in common.

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

    def advance(self, labels: np.ndarray, fixed: np.ndarray, firmly: np.ndarray) -> bool:
        """Takes the next axis wherever the chosen one turned out to be fixed.

        Where an axis is fixed whatever is chosen elsewhere, its choice changes first: with keys and
        values that a cache holds, what is tied to them can be cut only if they are left alone.
        Choices that concern the same channels change one after another: a channel shuffle divides
        and merges, and both must choose the same axis.

        Args:
            labels: int64 by slot, its component.
            fixed: bool by slot.
            firmly: bool by slot, fixed whatever is chosen.

        Returns:
            Whether any choice changed.
        """
        moved: set[int] = set()
        for stuck in (firmly, fixed):
            for key, candidates in self.open.items():
                at = self.chosen.get(key, 0)
                later = range(at + 1, len(candidates))
                after = next((i for i in later if not firmly[candidates[i]].all()), None)
                if after is None or not stuck[candidates[at]].all():
                    continue
                concerned = set(labels[np.concatenate(candidates)].tolist())
                if moved.isdisjoint(concerned):
                    self.chosen[key] = after
                    moved |= concerned
            if moved:
                break
        self.open.clear()
        return bool(moved)


def tie_reshape(space: Space, node: Node, choices: Choices) -> None:
    """Ties what a Reshape, Flatten, Squeeze or Unsqueeze reads and writes."""
    x, y = node.inputs[0], node.outputs[0]
    for number, (before, after) in enumerate(parts(space.axes_of(x), space.axes_of(y))):
        if len(before) == len(after) == 1:
            space.move(node, before[0].slots, after[0].slots)
        elif links := _links(before, after):
            _choose(space, node, number, [*before, *after], links, choices)
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


@dataclass(frozen=True)
class _Link:
    """A factor that an axis before and one after have in common: heads, say.

    Attributes:
        source: the axis before.
        target: the axis after.
        before: int64 [length of source], for each slot the index along the factor.
        after: the same of the target.
    """

    source: Axis
    target: Axis
    before: np.ndarray
    after: np.ndarray

    def slots(self) -> np.ndarray:
        """Of the shorter axis."""
        return min(self.source, self.target, key=lambda axis: axis.length).slots

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Slots before and after that hold the same elements."""
        size = int(self.before.max()) + 1
        source = np.argsort(self.before, kind="stable").reshape(size, -1, 1)
        target = np.argsort(self.after, kind="stable").reshape(size, 1, -1)
        pairs = np.broadcast_arrays(self.source.slots[source], self.target.slots[target])
        return pairs[0].reshape(-1), pairs[1].reshape(-1)


_MOST_PAIRS = 1 << 20
"""Pairs of slots that a Reshape relates, at most."""


def _links(before: Sequence[Axis], after: Sequence[Axis]) -> list[_Link]:
    """The factors that axes of both sides have in common, outermost first.

    With the sizes of all axes multiplied up, an axis is a stretch between two such products. Where
    two stretches overlap, they share a factor if the ends of the overlap divide theirs.
    """
    found = []
    for source, ours in _stretches(before):
        for target, theirs in _stretches(after):
            low, high = max(ours[0], theirs[0]), min(ours[1], theirs[1])
            shares = high > low and not any(
                (low % begin, end % high) != (0, 0) for begin, end in (ours, theirs)
            )
            pairs = source.length * target.length * low // high if shares else 0
            if shares and high % low == 0 and pairs <= _MOST_PAIRS:
                indices = (_along(stretch, low, high) for stretch in (ours, theirs))
                found.append(_Link(source, target, *indices))
    return found


def _along(stretch: tuple[int, int], low: int, high: int) -> np.ndarray:
    shape = (low // stretch[0], high // low, stretch[1] // high)
    return np.broadcast_to(np.arange(shape[1]).reshape(1, -1, 1), shape).reshape(-1)


def _stretches(axes: Sequence[Axis]) -> Iterator[tuple[Axis, tuple[int, int]]]:
    product = 1
    for axis in axes:
        yield axis, (product, product := product * axis.length)


def _choose(
    space: Space,
    node: Node,
    number: int,
    axes: Sequence[Axis],
    links: Sequence[_Link],
    choices: Choices,
) -> None:
    choices.open[node, number] = [link.slots() for link in links]
    chosen = links[choices.chosen.get((node, number), 0)]
    space.choose(node, *chosen.pairs())
    for axis in axes:
        if axis not in (chosen.source, chosen.target):
            space.exclude(axis.slots, f"{node.op} {node.name!r} joins it with another axis")


def _size(axes: list[Axis]) -> int:
    return math.prod(axis.length for axis in axes)
