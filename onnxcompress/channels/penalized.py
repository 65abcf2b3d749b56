"""The units of dependency groups as what a penalty of training sees."""

from __future__ import annotations

import numpy as np

from onnxcompress.channels.groups import Groups
from onnxcompress.distillation.plan import Slices
from onnxcompress.ir.model import Constant


def unit_slices(groups: Groups) -> tuple[Slices, ...]:
    """Which unit each slice of each stored float32 tensor belongs to, units of all groups counted.

    A slice of several tensors, the filter that makes a channel and what reads it, is one unit.
    """
    unit_of = np.full(groups.space.size, -1)
    count = 0
    for group in groups.groups:
        numbers = count + np.arange(len(group))
        unit_of[group.units] = numbers[:, None]
        count += len(group)
    wanted = {axis for group in groups.groups for axis in group.axes}
    return tuple(
        Slices(axis.tensor, axis.axis, unit_of[axis.slots])
        for axis in groups.space.axes
        if axis in wanted
        and isinstance(axis.tensor, Constant)
        and axis.tensor.dtype == np.float32
        and (axis.tensor, axis.axis) in groups.space.parameters
    )
