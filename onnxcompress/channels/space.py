"""Every slice of every tensor of a graph, and which of them can only go together.

A *slot* is one index along one axis of one tensor. Where an operator passes channels on, multiplies
with a weight or adds two tensors, the slots it relates are *tied*: cutting one of them needs the
others cut. What an operator cannot do without is *fixed*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcompress.channels.numbers import Numbers, changed
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.pass_base import TensorType


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor and where its slots begin."""

    tensor: Tensor
    axis: int
    start: int
    length: int

    @property
    def slots(self) -> np.ndarray:
        """int64 [length]: the slots, in order."""
        return np.arange(self.start, self.start + self.length)


@dataclass(frozen=True)
class Sum:
    """A sum of products over slots: what a slot adds is nothing if either factor is zero there.

    Attributes:
        node: what computes it.
        first: slots of one factor.
        second: slots of the other factor, pair by pair.
        flat: whether every result takes the whole sum in; not so where a window of a convolution
            reaches over the border.
    """

    node: Node
    first: np.ndarray
    second: np.ndarray
    flat: bool


class Space:
    """The slots of a model, and what is known of them.

    Args:
        model: its main graph is numbered; what bodies read is fixed.
        types: of the main graph's tensors, as one sample has them.
    """

    def __init__(self, model: Model, types: Mapping[str, TensorType]):
        self.opset = model.opset
        self.axes: list[Axis] = []
        self.sums: list[Sum] = []
        self.moves: dict[Node, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
        self.parameters: dict[tuple[Constant, int], None] = {}
        self.reasons: list[str] = []
        self._shapes: dict[Tensor, tuple[int, ...]] = {}
        self._axes: dict[Tensor, list[Axis]] = {}
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._fixed: list[tuple[np.ndarray, int]] = []
        self._chosen_ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._chosen_fixed: list[tuple[np.ndarray, int]] = []
        self._numbers = Numbers(self._shapes)
        self._altered = Numbers(self._shapes, self._altered_length)
        self.size = 0
        for tensor in _tensors(model):
            if isinstance(tensor, Constant):
                self._number(tensor, tensor.shape)
            elif tensor.name in types:
                self._number(tensor, types[tensor.name].shape)

    def knows(self, tensor: Tensor) -> bool:
        """Whether the shape of a tensor is known."""
        return tensor in self._shapes

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """Length of each axis of a known tensor."""
        return self._shapes[tensor]

    def rank(self, tensor: Tensor) -> int:
        """How many axes a known tensor has."""
        return len(self._shapes[tensor])

    def axis(self, tensor: Tensor, axis: int) -> np.ndarray:
        """int64 [length]: the slots of one axis; counts from the end if negative."""
        return self._axes[tensor][axis].slots

    def axes_of(self, tensor: Tensor) -> Sequence[Axis]:
        """All axes of a known tensor."""
        return self._axes[tensor]

    def numbers(self, tensor: Tensor) -> np.ndarray | None:
        """What a tensor holds that is computed from shapes, for the one sample; None if more."""
        return self._numbers.of(tensor)

    def is_steady(self, tensor: Tensor, own: Axis | None = None) -> bool:
        """Whether these numbers are the same whatever lengths axes have.

        Args:
            tensor: whose numbers.
            own: an axis whose length may matter.
        """
        now, then = self._numbers.of(tensor), self._altered.of(tensor)
        if now is None:
            return False
        if own is None or (then is not None and np.array_equal(now, then)):
            return then is not None and np.array_equal(now, then)

        def altered(x: Tensor, axis: int) -> int:
            if (x, axis) == (own.tensor, own.axis):
                return own.length
            return self._altered_length(x, axis)

        then = Numbers(self._shapes, altered).of(tensor)
        return then is not None and np.array_equal(now, then)

    def _altered_length(self, tensor: Tensor, axis: int) -> int:
        """Another length for every axis that may have another one in another sample."""
        length = self._shapes[tensor][axis]
        return length if isinstance(tensor, Constant) else changed(length)

    def steady_numbers(self, tensor: Tensor) -> np.ndarray | None:
        """The numbers that a tensor holds whatever lengths axes have; None if they depend."""
        return self.numbers(tensor) if self.is_steady(tensor) else None

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Says that slots, pair by pair, go together."""
        self._ties.append((first.reshape(-1), second.reshape(-1)))

    def move(self, node: Node, source: np.ndarray, target: np.ndarray) -> None:
        """As `tie`, where the node writes to `target` just what it finds at `source`.

        A target that is named several times holds what all its sources hold.
        """
        self.tie(source, target)
        self.moves[node].append((source.reshape(-1), target.reshape(-1)))

    def choose(self, node: Node, source: np.ndarray, target: np.ndarray) -> None:
        """As `move`, where the node would allow for other pairs too."""
        self._chosen_ties.append((source.reshape(-1), target.reshape(-1)))
        self.moves[node].append(self._chosen_ties[-1])

    def exclude(self, slots: np.ndarray, reason: str) -> None:
        """As `fix`, of slots that go with a pair that was not chosen."""
        self.reasons.append(reason)
        self._chosen_fixed.append((slots.reshape(-1), len(self.reasons) - 1))

    def multiply(
        self, node: Node, first: np.ndarray, second: np.ndarray, *, flat: bool = True
    ) -> None:
        """As `tie`, for slots that a node multiplies pair by pair and sums up."""
        self.tie(first, second)
        self.sums.append(Sum(node, first.reshape(-1), second.reshape(-1), flat))

    def fix(self, slots: np.ndarray, reason: str) -> None:
        """Says that slots cannot go, nor what is tied to them."""
        if slots.size:
            self.reasons.append(reason)
            self._fixed.append((slots.reshape(-1), len(self.reasons) - 1))

    def fix_all(self, node: Node, reason: str) -> None:
        """Fixes all that a node reads and writes."""
        for tensor in [*node.inputs, *node.outputs]:
            self.fix_tensor(tensor, reason)

    def fix_tensor(self, tensor: Tensor, reason: str) -> None:
        """Fixes every axis of a tensor."""
        for axis in self._axes.get(tensor, ()):
            self.fix(axis.slots, reason)

    def is_stored(self, tensor: Tensor) -> bool:
        """Whether a tensor is stored, or made of one stored tensor alone."""
        return _source(tensor) is not None

    def disregard(self, tensor: Tensor, axis: int) -> None:
        """Says that an axis of a weight is no channels: a window's."""
        source = _source(tensor)
        if source is not None:
            self.parameters.pop((source, axis), None)

    def weigh(self, tensor: Tensor, axis: int) -> None:
        """Says that slots of a stored tensor are parameters, worth cutting and free to be zero.

        Of what is made of a stored tensor (transposed, dequantized), it is that tensor.
        """
        source = _source(tensor)
        if source is not None and source.dtype in _COUNTS:
            return
        if source is tensor and source is not None:
            self.parameters[source, axis % self.rank(source)] = None
        elif source is not None:
            self.parameters |= {(source, own.axis): None for own in self._axes[source]}

    def components(self, *, chosen: bool = True) -> np.ndarray:
        """int64 [size]: the lowest slot that each slot goes together with.

        Args:
            chosen: whether choices count, or what holds whatever is chosen alone.
        """
        ties = [*self._ties, *(self._chosen_ties if chosen else ())]
        first, second = (
            np.concatenate([np.empty(0, np.int64), *(tie[side] for tie in ties)]) for side in (0, 1)
        )
        return connected(self.size, first, second)

    def fixed(self, labels: np.ndarray, *, chosen: bool = True) -> Mapping[int, int]:
        """By component, the index in `reasons` of why it cannot go; `chosen` as for components."""
        fixed = [*self._fixed, *(self._chosen_fixed if chosen else ())]
        if not fixed:
            return {}
        why = np.repeat([reason for _, reason in fixed], [len(slots) for slots, _ in fixed])
        found, first = np.unique(
            labels[np.concatenate([slots for slots, _ in fixed])], return_index=True
        )
        return dict(zip(found.tolist(), why[first].tolist(), strict=True))

    def _number(self, tensor: Tensor, shape: Sequence[int]) -> None:
        self._shapes[tensor] = tuple(shape)
        numbered = []
        for axis, length in enumerate(shape):
            numbered.append(Axis(tensor, axis, self.size, length))
            self.size += length
        self._axes[tensor] = numbered
        self.axes.extend(numbered)


def connected(size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Connected components of an undirected graph: for each node the lowest it is connected with.

    Hooking and pointer jumping (Shiloach and Vishkin 1982).

    Args:
        size: how many nodes there are.
        first: int64 [edges], one end of each edge.
        second: the other end.
    """
    labels = np.arange(size)
    while True:
        low = np.minimum(labels[first], labels[second])
        high = np.maximum(labels[first], labels[second])
        apart = low != high
        if not apart.any():
            return labels
        np.minimum.at(labels, high[apart], low[apart])
        while not np.array_equal(jumped := labels[labels], labels):
            labels = jumped


_REWRITING = frozenset({"Cast", "DequantizeLinear", "Identity", "Reshape", "Transpose"})
"""Operators that make of a stored tensor, their first input, one that stands for it."""


_COUNTS = (np.dtype(np.int64), np.dtype(np.bool_))
"""Types that lengths, indices and conditions are stored in, but no weights."""


def _source(tensor: Tensor) -> Constant | None:
    """The stored tensor that a tensor is or is made of."""
    while not isinstance(tensor, Constant):
        writer = query.producer(tensor)
        if writer is None or writer.op not in _REWRITING:
            return None
        tensor = writer.inputs[0]
    return tensor


def _tensors(model: Model) -> list[Tensor]:
    found: dict[Tensor, None] = {}
    for node in model.graph.nodes:
        for tensor in [*node.inputs, *node.outputs]:
            if not query.is_omitted(tensor):
                found[tensor] = None
    found.update((tensor, None) for tensor in [*model.graph.inputs, *model.graph.outputs])
    return list(found)
