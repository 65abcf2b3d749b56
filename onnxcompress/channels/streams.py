"""Which dependency groups run through a residual stream, x + f(x).

What makes a stream is not that two computed tensors are added: rotary positions, a GELU written
out, scores and the bias of each head are sums too, of parts that both come of the same products.
In a stream one operand carries units on, and the other was made from these very units by products
that sum over them. A table that is looked up, such as the biases of all heads by distance, which
every layer adds to its scores, is no unit that is carried on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from onnxcompress.channels.space import Space
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Node, Tensor

_VALUELESS = frozenset({"Shape", "Size"})
"""Operators whose results depend on no value."""


class Streams:
    """Tells groups with residual sums from others.

    Args:
        space: of the model.
        nodes: of the model, in the order in which they run.
    """

    def __init__(self, space: Space, nodes: Sequence[Node]):
        self._places: Mapping[Node, int] = {node: place for place, node in enumerate(nodes)}
        self._sums: dict[Node, list[np.ndarray]] = {}
        for each in space.sums:
            self._sums.setdefault(each.node, []).extend((each.first, each.second))
        self._size = space.size

    def holds(self, tensors: Collection[Tensor], units: np.ndarray) -> bool:
        """Whether units run through a residual sum.

        Args:
            tensors: that units are a part of.
            units: int64 [units, slots].
        """
        sums = [parts for node in _writers(tensors) if len(parts := _parts(node, tensors)) > 1]
        if not sums:
            return False
        inside = np.zeros(self._size, bool)
        inside[units] = True
        region = _Region(frozenset(tensors), self._places, self._sums, inside)
        return any(
            region.returns(other, {each for each in region.carried(part) if region.is_made(each)})
            for parts in sums
            for part in parts
            for other in parts
            if other is not part
        )


class _Region:
    """The tensors that units of a group are a part of, and how nodes lead from one to another."""

    def __init__(
        self,
        tensors: frozenset[Tensor],
        places: Mapping[Node, int],
        sums: Mapping[Node, Sequence[np.ndarray]],
        inside: np.ndarray,
    ):
        self._tensors = tensors
        self._places = places
        self._sums = sums
        self._inside = inside
        self._carries: dict[Node, Sequence[Tensor]] = {}
        self._made: set[Tensor] = set()
        for tensor in sorted(tensors, key=self._place):
            node = query.producer(tensor)
            if node is None:
                continue
            computed = [each for each in self._carried_by(node) if each.inputs]
            if any(each in self._made for each in computed) if computed else not _looks_up(node):
                self._made.add(tensor)

    def is_made(self, tensor: Tensor) -> bool:
        """Whether a tensor is more than what was looked up in a table."""
        return tensor in self._made

    def carried(self, tensor: Tensor) -> set[Tensor]:
        """The tensors whose units a tensor takes over slot by slot, itself among them."""
        found = {tensor}
        waiting = [tensor]
        while waiting:
            node = query.producer(waiting.pop())
            for each in self._carried_by(node) if node is not None else ():
                if each not in found:
                    found.add(each)
                    waiting.append(each)
        return found

    def returns(self, tensor: Tensor, sources: Collection[Tensor]) -> bool:
        """Whether a tensor is made of one of the sources by way of products or of other tensors."""
        first = min((self._place(each) for each in sources), default=0)
        seen: set[tuple[Tensor, bool]] = set()
        waiting = [(tensor, False)]
        while waiting:
            state = waiting.pop()
            each, left = state
            if state in seen or self._place(each) < first:
                continue
            seen.add(state)
            if left and each in sources:
                return True
            node = query.producer(each)
            if node is None or node.op in _VALUELESS:
                continue
            kept = self._carried_by(node) if each in self._tensors else ()
            waiting += [(x, left or x not in kept) for x in node.inputs]
        return False

    def _place(self, tensor: Tensor) -> int:
        node = query.producer(tensor)
        return -1 if node is None else self._places.get(node, -1)

    def _carried_by(self, node: Node) -> Sequence[Tensor]:
        """The inputs of a node whose units it takes over; none if it sums over units."""
        if node not in self._carries:
            summed = self._sums.get(node, ())
            sums = any(bool(self._inside[each].any()) for each in summed)
            self._carries[node] = [] if sums else [x for x in node.inputs if x in self._tensors]
        return self._carries[node]


def _looks_up(node: Node) -> bool:
    return node.op == "Gather" and isinstance(node.inputs[0], Constant)


def _writers(tensors: Collection[Tensor]) -> Iterator[Node]:
    for tensor in tensors:
        node = query.producer(tensor)
        if node is not None and node.op in ("Add", "Sum"):
            yield node


def _parts(node: Node, tensors: Collection[Tensor]) -> list[Tensor]:
    """The computed operands of a sum that units are a part of."""
    return [each for each in node.inputs if each.inputs and each in tensors]
