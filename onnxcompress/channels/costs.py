"""What a model costs once slots are gone, told from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

import numpy as np

from onnxcompress.channels.space import Space
from onnxcompress.ir.model import Constant, Model, Tensor
from onnxcompress.ir.stored import stored_bytes
from onnxcompress.measure.macs import macs_of


class Measure(Enum):
    """What a target is counted in, by the names recipes use."""

    UNITS = "units"
    PARAMETERS = "parameters"
    BYTES = "bytes"
    MACS = "macs"
    LATENCY = "latency"


class Costs:
    """Counts a model's costs for any choice of slots that stay."""

    def __init__(self, model: Model, space: Space):
        self._model = model
        self._space = space

    def of(self, measure: Measure, kept: np.ndarray) -> int:
        """The cost of what stays.

        Args:
            measure: not `UNITS`, which are no cost, nor `LATENCY`, which has to be measured.
            kept: bool by slot.
        """
        starts = np.concatenate([[0], np.cumsum(kept)])
        shapes: dict[Tensor, tuple[int, ...]] = {}

        def shape(tensor: Tensor) -> tuple[int, ...] | None:
            if not self._space.knows(tensor):
                return None
            if tensor not in shapes:
                shapes[tensor] = tuple(
                    int(starts[axis.start + axis.length] - starts[axis.start])
                    for axis in self._space.axes_of(tensor)
                )
            return shapes[tensor]

        if measure is Measure.MACS:
            return sum(macs_of(node, shape) for node in self._model.graph.nodes)
        stored = [each for each in self._model.constants() if self._space.knows(each)]
        sizes: Mapping[Constant, tuple[int, ...]] = {each: shape(each) or () for each in stored}
        if measure is Measure.BYTES:
            return sum(stored_bytes(size, each.dtype) for each, size in sizes.items())
        return sum(math.prod(size) for size in sizes.values())
