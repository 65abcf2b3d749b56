"""Units that a mask took, found again and filled with what they held."""

from __future__ import annotations

import numpy as np

from onnxcompress.channels.groups import Group
from onnxcompress.channels.space import Axis, Space
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant


class Masked:
    """A model beside the one that it was before units of it were masked.

    Args:
        space: of the model as it is.
        before: of the model as it was; numbered alike.
    """

    def __init__(self, space: Space, before: Space):
        self._space = space
        origins = {axis.start: axis.tensor for axis in before.axes if axis.axis == 0}
        starts = {axis.tensor: axis.start for axis in space.axes if axis.axis == 0}
        self._pairs: dict[Constant, Constant] = {}
        for tensor in dict.fromkeys(each for each, _ in space.parameters):
            origin = origins.get(starts[tensor])
            if isinstance(origin, Constant) and origin.shape == tensor.shape:
                self._pairs[tensor] = origin
        self._zero = np.ones(space.size, bool)
        self._were_zero = np.ones(space.size, bool)
        for tensor, origin in self._pairs.items():
            for axis in self._parameters(tensor):
                self._zero[axis.slots] = _empty(tensor, axis.axis)
                self._were_zero[axis.slots] = _empty(origin, axis.axis)

    def gone(self, group: Group) -> np.ndarray:
        """Which units are zero throughout and were not: bool [units]."""
        zero = self._zero[group.units].all(axis=1)
        taken: np.ndarray = zero & ~self._were_zero[group.units].all(axis=1)
        return taken

    def restore(self, edit: Editor, back: np.ndarray, gone: np.ndarray) -> None:
        """Gives units what they held before the mask.

        Args:
            edit: records the change.
            back: bool by slot, those that come back.
            gone: bool by slot, those that stay away: where both meet, numbers stay zero.
        """
        for tensor, origin in self._pairs.items():
            chosen = np.zeros(tensor.shape, bool)
            away = np.zeros(tensor.shape, bool)
            for axis in self._parameters(tensor):
                shape = [1] * len(tensor.shape)
                shape[axis.axis] = axis.length
                chosen |= back[axis.slots].reshape(shape)
                away |= gone[axis.slots].reshape(shape)
            chosen &= ~away
            if not chosen.any():
                continue
            values = np.where(chosen, origin.values, tensor.values)
            if np.array_equal(values, tensor.values):
                continue
            restored = edit.constant(tensor.name, values)
            detail = f"{tensor.name}: {np.count_nonzero(chosen)} of {values.size} come back"
            for node in query.consumers(tensor):
                for place, each in enumerate(list(node.inputs)):
                    if each is tensor:
                        edit.set_input(node, place, restored, detail)

    def _parameters(self, tensor: Constant) -> list[Axis]:
        return [
            a for a in self._space.axes_of(tensor) if (tensor, a.axis) in self._space.parameters
        ]


def _empty(tensor: Constant, axis: int) -> np.ndarray:
    """Bool [length]: which slices along an axis hold nothing but zeros."""
    others = tuple(each for each in range(len(tensor.shape)) if each != axis)
    return np.asarray(~tensor.values.any(axis=others))
