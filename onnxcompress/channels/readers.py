"""The products that read the units of a dependency group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcompress.channels.groups import Group, Groups
from onnxcompress.ir import query
from onnxcompress.ir.linear import stored_operand
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.pass_base import Context
from onnxcompress.pruning.unit_removal import Product
from onnxcompress.qdq.matrices import inputs_of, to_matrices
from onnxcompress.qdq.moments import size_of
from onnxcompress.quantization.rounding import Moments

_BYTES_AT_ONCE = 416 << 20
"""Moments held in one run over the data; groups that need more take several."""

_POSITIONS = 256
"""Rows taken of each sample: tokens of a text, output positions of a picture."""


@dataclass(frozen=True)
class Reader:
    """A product with a stored weight that reads the units of a group.

    Attributes:
        node: Conv without groups, Gemm or MatMul.
        features: int64 [units, features per unit]: which features of its weight are of each unit.
    """

    node: Node
    features: np.ndarray


def readers_of(groups: Groups, group: Group) -> list[Reader]:
    """The products that sum over the units of a group."""
    space = groups.space
    found = {}
    for each in space.sums:
        weight = query.constant(each.node, 1)
        if each.node in found or not _is_plain(each.node, weight):
            continue
        assert weight is not None
        inside = np.isin(each.second, group.units)
        if not inside.any():
            continue
        place = np.full(space.size, -1)
        place[each.second] = np.arange(len(each.second))
        channels = place[group.units]
        rows = [row[row >= 0] for row in channels]
        if len({len(row) for row in rows}) != 1:
            continue
        kernel = weight.size // (weight.shape[0] * weight.shape[1])
        inner = np.stack(rows)[:, :, None] * kernel + np.arange(kernel)
        found[each.node] = Reader(each.node, inner.reshape(len(rows), -1))
    return list(found.values())


def products_of(
    model: Model, readers: Sequence[tuple[Group, Sequence[Reader]]], context: Context
) -> Iterator[tuple[Group, list[Product]]]:
    """Each group with what its readers multiply; takes a run over the data for a portion of them.

    Args:
        model: the groups' own.
        readers: of each group, at least one.
        context: lends the activations.
    """
    for portion in _portions(readers):
        nodes = list(dict.fromkeys(each.node for _, own in portion for each in own))
        seen = {node: _Watched(node, _sum_of(model, node)) for node in nodes}
        names = {each.node.inputs[0].name: None for each in seen.values()}
        names |= {each.total.name: None for each in seen.values()}
        start = 0
        for batch in context.activations(model, list(names)):
            for each in seen.values():
                each.add(batch[each.node.inputs[0].name], batch[each.total.name], start)
            start += len(next(iter(batch.values())))
        for group, own in portion:
            yield group, [seen[each.node].product(each) for each in own]


class _Watched:
    """What a node reads, every other sample apart, and how much the sum varies that it adds to."""

    def __init__(self, node: Node, total: Tensor):
        self.node = node
        self.total = total
        features = size_of(node)[1]
        self._parts = (Moments.empty(1, features), Moments.empty(1, features))
        self._sum = 0.0
        self._squares = 0.0
        self._rows = 0

    def add(self, values: np.ndarray, total: np.ndarray, start: int) -> None:
        """Counts a batch whose first sample has the number `start`."""
        odd = (np.arange(start, start + len(values)) % 2).astype(bool)
        for part, chosen in zip(self._parts, (~odd, odd), strict=True):
            if chosen.any():
                part.add(inputs_of(self.node, values[chosen], _POSITIONS))
        axis = 1 if self.node.op == "Conv" else total.ndim - 1
        channels = np.moveaxis(total, axis, 0).reshape(total.shape[axis], -1)
        self._sum = self._sum + channels.sum(axis=1, dtype=np.float64)
        self._squares = self._squares + np.square(channels, dtype=np.float64).sum(axis=1)
        self._rows += channels.shape[1]

    def product(self, reader: Reader) -> Product:
        """The node's product, seen from the units of a reader."""
        weight = query.constant(self.node, 1)
        assert weight is not None
        rows = max(self._rows, 1)
        variance = np.sum(self._squares / rows - np.square(self._sum / rows))
        fitted, held_out = self._parts
        if not held_out.count:  # of a single sample, errors can only be measured on itself
            held_out = fitted
        return Product(
            to_matrices(self.node, weight.values)[0],
            fitted.covariance[0],
            held_out.covariance[0],
            reader.features,
            max(float(variance), 1e-30),
        )


def _sum_of(model: Model, node: Node) -> Tensor:
    """The residual sum that a node's result goes into by way of its bias; else its result."""
    tensor: Tensor = node.outputs[0]
    for _ in range(2):
        reader = query.only_consumer(model, tensor)
        if reader is None or reader.op != "Add" or reader not in model.graph.nodes:
            break
        tensor = reader.outputs[0]
        if stored_operand(reader) is None:
            break
    return tensor


def _portions(
    readers: Sequence[tuple[Group, Sequence[Reader]]],
) -> Iterator[list[tuple[Group, Sequence[Reader]]]]:
    """As many groups at a time as memory for their moments allows."""
    portion: list[tuple[Group, Sequence[Reader]]] = []
    held = 0
    for group, own in readers:
        size = sum(16 * size_of(each.node)[1] ** 2 for each in own)
        if portion and held + size > _BYTES_AT_ONCE:
            yield portion
            portion, held = [], 0
        portion.append((group, own))
        held += size
    if portion:
        yield portion


def _is_plain(node: Node, weight: Constant | None) -> bool:
    if weight is None or weight.dtype != np.float32 or isinstance(node.inputs[0], Constant):
        return False
    if node.op == "Conv":
        return node.int_attr("group", 1) == 1
    return node.op in ("Gemm", "MatMul") and len(weight.shape) == 2
