"""What a model costs once slots are gone, told from shapes alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cached_property

import numpy as np

from onnxcompress.channels.space import Axis, Space
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.ir.stored import stored_bytes
from onnxcompress.measure.macs import macs_of

_Shape = tuple[int, ...]


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

        def length(axis: Axis) -> int:
            return int(starts[axis.start + axis.length] - starts[axis.start])

        return _total(measure, self._model.graph.nodes, self._stored, self._shapes(length))

    def saved(self, measure: Measure, gone: np.ndarray) -> int:
        """What the whole model costs more than without some slots.

        Only the tensors that these slots are of are looked at, and their nodes, so that asking
        for each of many small groups takes no more than asking for the whole.

        Args:
            measure: see `of`.
            gone: int64, slots.
        """
        gone = np.unique(gone)
        # Axes lie one after the other; those without slots share their start with the next.
        places = np.unique(np.searchsorted(self._starts, gone, side="right") - 1)
        tensors = {self._space.axes[place].tensor: None for place in places.tolist()}
        stored = [each for each in tensors if isinstance(each, Constant) and each in self._stored]
        nodes = list({node: None for each in tensors for node in self._nodes_of.get(each, ())})

        def length(axis: Axis) -> int:
            first, last = np.searchsorted(gone, [axis.start, axis.start + axis.length])
            return axis.length - int(last - first)

        before = _total(measure, nodes, stored, self._shapes(lambda axis: axis.length))
        return before - _total(measure, nodes, stored, self._shapes(length))

    @cached_property
    def _stored(self) -> Mapping[Constant, None]:
        """Stored tensors whose shape is known, in the model's order."""
        return {each: None for each in self._model.constants() if self._space.knows(each)}

    @cached_property
    def _starts(self) -> np.ndarray:
        """int64 [axes]: the first slot of each."""
        return np.array([axis.start for axis in self._space.axes], np.int64)

    @cached_property
    def _nodes_of(self) -> Mapping[Tensor, Sequence[Node]]:
        """The nodes of the main graph that read or make a tensor."""
        found: defaultdict[Tensor, list[Node]] = defaultdict(list)
        for node in self._model.graph.nodes:
            for tensor in (*node.inputs, *node.outputs):
                found[tensor].append(node)
        return found

    def _shapes(self, length: Callable[[Axis], int]) -> Callable[[Tensor], _Shape | None]:
        """Shapes of known tensors by the lengths of their axes, each counted once."""
        shapes: dict[Tensor, _Shape] = {}

        def shape(tensor: Tensor) -> _Shape | None:
            if not self._space.knows(tensor):
                return None
            if tensor not in shapes:
                shapes[tensor] = tuple(length(axis) for axis in self._space.axes_of(tensor))
            return shapes[tensor]

        return shape


def _total(
    measure: Measure,
    nodes: Iterable[Node],
    stored: Iterable[Constant],
    shape: Callable[[Tensor], _Shape | None],
) -> int:
    if measure is Measure.MACS:
        return sum(macs_of(node, shape) for node in nodes)
    sizes = {each: shape(each) or () for each in stored}
    if measure is Measure.BYTES:
        return sum(stored_bytes(size, each.dtype) for each, size in sizes.items())
    return sum(math.prod(size) for size in sizes.values())
