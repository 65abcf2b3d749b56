"""Choosing the units to cut: the least important ones, in steps that kernels like."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from onnxcompress.channels.groups import Group
from onnxcompress.channels.products import GATES
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Tensor
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pruning.unit_removal import Removal

_CLOSE = 0.02
"""How far below a limit a cost may end before other chunks are tried."""


class Scope(Enum):
    """What competes for the amount to cut, by the names recipes use."""

    GROUP = "group"
    GLOBAL = "global"


@dataclass(frozen=True)
class Chunk:
    """Units of a group that go together, so that a width stays that kernels are fast with."""

    group: Group
    units: np.ndarray
    share: float


@dataclass(frozen=True)
class Ranking:
    """The units of a group that compete with others.

    Attributes:
        group: the group.
        removal: in which order they go, and at what cost; units that it does not name stay.
        step: units that go at once.
        saving: what cutting one unit saves of the model, as a share; for a global scope.
    """

    group: Group
    removal: Removal
    step: int
    saving: float


def width_step(group: Group, multiple: int) -> int:
    """Units to cut at once so that every width that is a multiple of a number stays one.

    A head is several channels wide, so that fewer of them make a multiple; as is a channel of each
    group of a convolution. What is no width of a kernel does not count: a table of biases by head,
    the channels within one of many groups, the leading axes of stacked matrices.
    """
    widths = [
        group.slots_per_unit(axis)
        for axis in group.axes
        if isinstance(axis.tensor, Constant)
        and _is_width(axis.tensor, axis.axis, len(axis.tensor.shape))
    ]
    if not widths:
        return 1
    return multiple // math.gcd(multiple, math.gcd(*widths))


def _is_width(tensor: Tensor, axis: int, rank: int) -> bool:
    """Whether a kernel is as wide as an axis of its weight is long.

    Args:
        tensor: the weight, or what it is before others make the weight of it.
        axis: of it.
        rank: how many it has.
    """
    for node in query.consumers(tensor) if rank > 1 else ():
        if node.op == "Transpose":
            order = node.ints_attr("perm", tuple(reversed(range(rank))))
            if _is_width(node.outputs[0], order.index(axis), rank):
                return True
        elif node.op in ("Cast", "DequantizeLinear", "Identity"):
            if node.inputs[0] is tensor and _is_width(node.outputs[0], axis, rank):
                return True
        elif node.op in ("Conv", "ConvTranspose"):
            if axis == 0 or (axis == 1 and node.int_attr("group", 1) == 1):
                return True
        elif (node.op in WEIGHTED_OPS or node.op in GATES) and axis >= rank - 2:
            return True
    return False


def finer(ranking: Ranking, most: float) -> Ranking:
    """With a step so small that not more than some units go at first, if that can be.

    Rounding to what kernels are fast with must not round to nothing.
    """
    while ranking.step > 1 and ((end := _end(ranking, 0)) is None or end > most + 1e-9):
        ranking = replace(ranking, step=ranking.step // 2)
    return ranking


def in_order(rankings: Sequence[Ranking], scope: Scope) -> Iterator[Chunk]:
    """Chunks in the order in which they should go; the last units of every group are left out.

    With scope `group` all groups lose the same share; with `global`, those units go first that
    matter least for what they save.
    """
    waiting: list[tuple[float, int, int]] = []

    def push(number: int, start: int) -> None:
        ranking = rankings[number]
        end = _end(ranking, start)
        if end is None:
            return
        priority = end / len(ranking.group)
        if scope is Scope.GLOBAL:
            cost = float(ranking.removal.costs[start:end].mean())
            priority = cost / max(ranking.saving, 1e-30)
        heapq.heappush(waiting, (priority, number, start))

    for number in range(len(rankings)):
        push(number, 0)
    while waiting:
        _, number, start = heapq.heappop(waiting)
        ranking = rankings[number]
        end = _end(ranking, start)
        assert end is not None
        units = ranking.removal.order[start:end]
        yield Chunk(ranking.group, units, end / len(ranking.group))
        push(number, end)


def _end(ranking: Ranking, start: int) -> int | None:
    """Where a chunk ends so that what stays is a multiple of the step; None if nothing would stay.

    Where only some units may go, the last chunk ends with them.
    """
    count, most = len(ranking.group), len(ranking.removal.order)
    left = count - start
    end = min(start + (left % ranking.step or ranking.step), most)
    return end if start < end < count else None


def without(chunks: Sequence[Chunk], start: np.ndarray) -> np.ndarray:
    """Bool by slot: what stays once chunks are gone.

    Args:
        chunks: go.
        start: bool by slot, what was there before; left as it is.
    """
    left = start.copy()
    for chunk in chunks:
        left[chunk.group.units[chunk.units]] = False
    return left


def fewest(
    chunks: Sequence[Chunk], start: np.ndarray, limit: float, cost: Callable[[np.ndarray], float]
) -> int:
    """How many chunks have to go to get down to a cost, by bisection; all, if that is not enough.

    Args:
        chunks: in the order in which they go.
        start: bool by slot, what was there before.
        limit: the cost to get down to.
        cost: of what stays, bool by slot; asked as few times as can be.
    """
    low, high = 0, len(chunks)
    while low < high:
        middle = (low + high) // 2
        if cost(without(chunks[:middle], start)) <= limit:
            high = middle
        else:
            low = middle + 1
    return low


def down_to(
    chunks: Sequence[Chunk], start: np.ndarray, limit: float, cost: Callable[[np.ndarray], float]
) -> np.ndarray:
    """What stays if as few chunks go as are needed for a cost.

    A chunk may be large, a residual stream through the whole model: one that would take much more
    than is needed is left out, and so are the later ones of its group.

    Args:
        chunks: in the order in which they go.
        start: bool by slot, what was there before.
        limit: the cost to get down to; if all chunks are too few, all of them go.
        cost: of what stays, bool by slot.

    Returns:
        Bool by slot.
    """
    low = fewest(chunks, start, limit, cost)
    gone = list(chunks[: max(low - 1, 0)])
    best, best_cost = without(chunks[:low], start), 0.0
    left_out: set[Group] = set()
    for chunk in chunks[len(gone) :]:
        if chunk.group in left_out:
            continue
        kept = without([*gone, chunk], start)
        now = cost(kept)
        if now > limit:
            gone.append(chunk)
            continue
        left_out.add(chunk.group)
        if now > best_cost:
            best, best_cost = kept, now
        if now >= (1 - _CLOSE) * limit:
            break
    return best
