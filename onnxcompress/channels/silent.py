"""Which units of the dependency groups add nothing, or a constant, and can be cut."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from onnxcompress.channels.emission import Emissions
from onnxcompress.channels.groups import Group, Groups
from onnxcompress.channels.space import Space, Sum
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.linear import Linear, stored_operand
from onnxcompress.ir.model import Constant, Model, Node


@dataclass
class Silent:
    """Units to cut, by slot, and what they still add to the results of nodes.

    Attributes:
        kept: bool by slot.
        counts: units to cut, by group.
        shifts: float64 [outputs], what a node's bias must take up.
    """

    kept: np.ndarray
    counts: dict[Group, int] = field(default_factory=dict)
    shifts: dict[Node, np.ndarray] = field(default_factory=dict)


def find_silent(model: Model, groups: Groups) -> Silent:
    """Finds the units that can go without a change of the outputs, up to float rounding.

    A unit can go if, in every sum of products that it is a part of, one factor is zero; or if what
    it emits is a constant which the bias of that node can take up. One unit of each group stays.
    """
    space = groups.space
    axes = {axis for group in groups.groups for axis in group.axes}
    held = Emissions(space, model, axes).values
    blocked = np.zeros(space.size, bool)
    adding: dict[Node, list[Sum]] = defaultdict(list)
    for each in space.sums:
        zero = (held[each.first] == 0) | (held[each.second] == 0)
        constant = np.isfinite(held[each.first])
        foldable = constant & _can_fold(each)
        blocked[each.first[~zero & ~foldable]] = True
        if (~zero & foldable).any():
            adding[each.node].append(each)
    kept = np.ones(space.size, bool)
    result = Silent(kept)
    for group in groups.groups:
        going = ~blocked[group.units].any(axis=1)
        if going.all():
            going[0] = False
        if going.any():
            kept[group.units[going]] = False
            result.counts[group] = int(going.sum())
    for node, sums in adding.items():
        shift = _shift(space, node, sums, held, kept)
        if shift.any():
            result.shifts[node] = shift
    return result


def fold_shifts(model: Model, edit: Editor, silent: Silent) -> None:
    """Adds to biases what the units that were cut emitted; to be called once they are cut."""
    for node, shift in silent.shifts.items():
        reader = query.only_consumer(model, node.outputs[0])
        add = reader if reader is not None and reader.op == "Add" else None
        if node.op != "MatMul" or add is None or stored_operand(add) is None:
            add = None
        linear = Linear(node, add)
        reason = linear.scale_and_shift(edit, np.ones(1), shift)
        assert reason is None, reason


def _can_fold(each: Sum) -> bool:
    """Whether a constant that is multiplied with the second factor can move to the bias."""
    node = each.node
    weight = query.constant(node, 1)
    if not each.flat or weight is None or weight.dtype != np.float32:
        return False
    if node.op == "Conv":
        return node.int_attr("group", 1) == 1 and _bias_is_stored(node)
    if node.op == "Gemm":
        plain = node.float_attr("alpha", 1.0) == node.float_attr("beta", 1.0) == 1.0
        return plain and not node.int_attr("transA", 0) and _bias_is_stored(node)
    return node.op == "MatMul" and len(weight.shape) == 2


def _bias_is_stored(node: Node) -> bool:
    if not query.has_input(node, 2):
        return True
    bias = query.constant(node, 2)
    return bias is not None and len(bias.shape) == 1


def _shift(
    space: Space, node: Node, sums: list[Sum], held: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """float64: what slots that are cut add to each output that stays."""
    weight = query.constant(node, 1)
    assert isinstance(weight, Constant)
    values = weight.values.astype(np.float64)
    inner = 1 if node.op == "Conv" or node.int_attr("transB", 0) else 0
    matrix = np.moveaxis(values, inner, 0)
    matrix = matrix.reshape(*matrix.shape[:2], -1).sum(axis=2)  # [inputs, outputs]
    emitted = np.zeros(len(matrix))
    for each in sums:
        gone = ~kept[each.first] & np.isfinite(held[each.first])
        emitted = np.where(gone, held[each.first], 0.0)
    outputs = space.axis(weight, 1 - inner)
    shift: np.ndarray = (emitted @ matrix)[kept[outputs]]
    return shift
