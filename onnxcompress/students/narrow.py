"""Parts with fewer neurons, channels or heads, the least important ones cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxcompress.channels.cut import Cut
from onnxcompress.channels.groups import Group, find_groups
from onnxcompress.channels.importance import removals
from onnxcompress.channels.selection import width_step
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import Context
from onnxcompress.pruning.criteria import Criterion

_MULTIPLE = 8
"""Widths that are a multiple of it stay one: kernels are slow at others."""


def cut_neurons(part: Model, edit: Editor, context: Context, amount: float) -> str | None:
    """Cuts a share of the neurons, or channels, of each group; or says why it cannot."""
    return _cut(part, edit, context, amount, lambda group: not _is_of_heads(group), "neurons")


def cut_heads(part: Model, edit: Editor, context: Context, amount: float) -> str | None:
    """Cuts a share of the heads of each attention; or says why it cannot."""
    return _cut(part, edit, context, amount, _is_of_heads, "attention heads")


def _is_of_heads(group: Group) -> bool:
    """Whether each unit is several channels of a weight."""
    return any(
        isinstance(axis.tensor, Constant)
        and len(axis.tensor.shape) > 1
        and group.slots_per_unit(axis) > 1
        for axis in group.axes
    )


def _cut(
    part: Model,
    edit: Editor,
    context: Context,
    amount: float,
    wanted: Callable[[Group], bool],
    what: str,
) -> str | None:
    found = find_groups(part, context)
    groups = [each for each in found.groups if wanted(each) and not each.is_stream and each.nodes]
    if not groups:
        return f"the part has no {what} that can be followed from weight to weight"
    steps = {group: width_step(group, _MULTIPLE) for group in groups}
    refused: list[str] = []
    judged = removals(
        Criterion.WANDA,
        part,
        found.only(groups),
        context,
        lambda group, reason: refused.append(f"{group.name}: {reason}"),
        weights=(),
        steps=steps,
    )
    kept = np.ones(found.space.size, bool)
    for group, removal in judged.items():
        count = int(amount * len(group)) // steps[group] * steps[group]
        kept[group.units[removal.order[:count]]] = False
    if kept.all():
        smallest = ", ".join(f"{len(group)} of {group.name}" for group in groups[:3])
        return (
            "; ".join(refused) or f"amount={amount} of the {what} is less than a step: {smallest}"
        )
    Cut(found.space, kept).apply(part, edit)
    return None
