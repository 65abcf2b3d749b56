"""What each linear node of a pruned model should put out, and when it can be refitted to that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.linear import stored_operand
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.ir.ops import output_channel_axis

_EPSILON = 1e-5
"""Of BatchNormalization, where it is not given."""


@dataclass(frozen=True)
class BiasPlace:
    """The stored tensor that shifts the outputs of a linear node, one number a channel.

    Attributes:
        node: the node itself, the Add behind a MatMul, or a BatchNormalization behind a Conv
            without bias, whose mean can take up a shift.
        index: of its input.
        reference: the node of the unpruned model.
    """

    node: Node
    index: int
    reference: Node

    @property
    def is_mean(self) -> bool:
        """Whether the tensor is subtracted, and no part of what is matched."""
        return self.node.op == "BatchNormalization"

    @property
    def stored(self) -> Constant:
        """The tensor in the pruned model."""
        stored = query.constant(self.node, self.index)
        assert stored is not None
        return stored

    def values(self, channels: int) -> np.ndarray:
        """float64 [channels]: the shift as it is."""
        return self._values(self.node, channels)

    def unpruned_values(self, channels: int) -> np.ndarray:
        """float64 [channels]: the shift as it was before pruning."""
        return self._values(self.reference, channels)

    def _values(self, node: Node, channels: int) -> np.ndarray:
        stored, before = (query.constant(each, self.index) for each in (node, self.reference))
        assert stored is not None and before is not None
        values = stored.values.astype(np.float64).reshape(-1)
        if self.is_mean:
            values = before.values.astype(np.float64).reshape(-1) - values
        return np.broadcast_to(values, channels)

    def to_store(self, shift: np.ndarray) -> np.ndarray:
        """What is stored for a shift, float64 [channels]; float32 of as many axes as there are."""
        if self.is_mean:
            before = query.constant(self.reference, self.index)
            assert before is not None
            shift = before.values.astype(np.float64).reshape(-1) - shift
        rank = max(len(self.stored.shape), 1)
        return shift.reshape([1] * (rank - 1) + [-1]).astype(np.float32)


@dataclass(frozen=True)
class Residual:
    """The sum that a linear node writes into, through a BatchNormalization or none.

    Attributes:
        add: its node in the pruned model.
        shortcut: its other operand there.
        total: the name of the sum in the unpruned model.
        norm: what stands between.
    """

    add: Node
    shortcut: Tensor
    total: str
    norm: Node | None


@dataclass(frozen=True)
class Target:
    """What a node is refitted to.

    Attributes:
        node: a Conv, Gemm or MatMul of the pruned model.
        reference: the same node of the unpruned one.
        bias: where its bias is; None if it has none.
        wanted: the tensor of the unpruned model that its output stands for.
        residual: the sum it writes into, if it does.
    """

    node: Node
    reference: Node
    bias: BiasPlace | None
    wanted: str
    residual: Residual | None

    @property
    def weight(self) -> Constant:
        """The stored weight."""
        weight = query.constant(self.node, 1)
        assert weight is not None
        return weight

    @property
    def holders(self) -> Iterator[Node]:
        """Nodes behind it that the fit has taken into account."""
        if self.bias is not None:
            yield self.bias.node
        if self.residual is not None and self.residual.norm is not None:
            yield self.residual.norm

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """Tensors of the pruned model that the fit depends on."""
        shortcut = () if self.residual is None else (self.residual.shortcut,)
        return (self.node.inputs[0], *shortcut)


def find_target(
    model: Model, node: Node, named: Mapping[str, Node], *, residual: bool
) -> Target | str:
    """What a linear node with a stored weight is refitted to, or why it cannot be.

    Args:
        model: the pruned one.
        node: a Conv, Gemm or MatMul of its main graph.
        named: the unpruned model's nodes by name.
        residual: whether a node that writes into a sum makes up for the other operand.
    """
    reference = named.get(node.name)
    if reference is None or reference.op != node.op:
        return "the unpruned model has no such node"
    weight, before = query.constant(node, 1), query.constant(reference, 1)
    assert weight is not None
    axis = output_channel_axis(node, len(weight.shape))
    if before is None or len(before.shape) != len(weight.shape):
        return "the weight of the unpruned model's node is not stored"
    if before.shape[axis] != weight.shape[axis]:
        return (
            f"its output has {weight.shape[axis]} channels where the unpruned model has "
            f"{before.shape[axis]}: refit before strip-pruned"
        )
    if not np.any(weight.values):
        return "all of its weight is zero"
    place = _bias_place(model, node, named, weight.shape[axis])
    if isinstance(place, str):
        return place
    last, match = node, reference
    if place is not None and not place.is_mean:
        last, match = place.node, place.reference
    total = _residual(model, last, named) if residual else None
    return Target(node, reference, place, match.outputs[0].name, total)


def find_norm(node: Node, named: Mapping[str, Node]) -> Node | str:
    """The unpruned model's node for a BatchNormalization, or why its statistics must stay."""
    reference = named.get(node.name)
    if reference is None or reference.op != node.op:
        return "the unpruned model has no such node"
    for index in (3, 4):
        stored, before = query.constant(node, index), query.constant(reference, index)
        if stored is None or before is None:
            return "its statistics are not stored"
        if stored.shape != before.shape:
            return (
                f"it has {stored.size} channels where the unpruned model has {before.size}: "
                "refit before strip-pruned"
            )
    return reference


def _bias_place(
    model: Model, node: Node, named: Mapping[str, Node], channels: int
) -> BiasPlace | str | None:
    holder, index = _bias_input(model, node)
    if holder is None:
        return None
    reference = named.get(holder.name)
    if reference is None or reference.op != holder.op:
        return f"the unpruned model has no node {holder.name!r}, which holds the bias"
    for each in (holder, reference):
        stored = query.constant(each, index)
        if stored is None:
            return f"the bias of {each.name!r} is not stored"
        if stored.size not in (1, channels) or (stored.shape or (1,))[-1] != stored.size:
            return f"{stored.name!r} is not one number a channel"
    return BiasPlace(holder, index, reference)


def _bias_input(model: Model, node: Node) -> tuple[Node | None, int]:
    if node.op == "MatMul":
        add = query.only_consumer(model, node.outputs[0])
        index = None if add is None or add.op != "Add" else stored_operand(add)
        return (None, 0) if index is None else (add, index)
    if query.has_input(node, 2):
        return node, 2
    return (_norm_behind(model, node) if node.op == "Conv" else None), 3


def _norm_behind(model: Model, node: Node) -> Node | None:
    """A BatchNormalization with stored numbers that alone reads the node's output."""
    norm = query.only_consumer(model, node.outputs[0])
    if norm is None or norm.op != "BatchNormalization" or norm.int_attr("training_mode", 0):
        return None
    return norm if all(query.constant(norm, index) for index in range(1, 5)) else None


def _residual(model: Model, last: Node, named: Mapping[str, Node]) -> Residual | None:
    norm = _norm_behind(model, last)
    if norm is not None and not np.all(scale_and_shift(norm)[0]):
        return None  # what is multiplied by zero matches nothing
    summand = (norm or last).outputs[0]
    add = query.only_consumer(model, summand)
    match = None if add is None else named.get(add.name)
    if add is None or add.op != "Add" or match is None or match.op != "Add":
        return None
    others = [tensor for tensor in add.inputs if tensor is not summand]
    if len(others) != 1 or isinstance(others[0], Constant):
        return None
    return Residual(add, others[0], match.outputs[0].name, norm)


def scale_and_shift(norm: Node) -> tuple[np.ndarray, np.ndarray]:
    """A BatchNormalization (opset 7-15) as y = scale * x + shift, float64 [channels] each."""
    stored = [query.constant(norm, index) for index in range(1, 5)]
    scale, shift, mean, variance = (each.values.astype(np.float64) for each in stored if each)
    factor = scale / np.sqrt(variance + norm.float_attr("epsilon", _EPSILON))
    return factor, shift - factor * mean


def changed_nodes(model: Model, named: Mapping[str, Node]) -> set[Node]:
    """Nodes of the main graph that no longer put out what they do in the unpruned model.

    Args:
        model: the pruned one, sorted.
        named: the unpruned model's nodes by name.
    """
    changed: set[Node] = set()
    tensors: set[Tensor] = set()
    for node in model.graph.nodes:
        reference = named.get(node.name)
        reads = {tensor for each in (node, *node.inner_nodes()) for tensor in each.inputs}
        if reference is None or reads & tensors or not _stores_the_same(node, reference):
            changed.add(node)
            tensors.update(node.outputs)
    return changed


def _stores_the_same(node: Node, reference: Node) -> bool:
    both = ([*node.inner_nodes()], [*reference.inner_nodes()])
    pairs = [(node, reference), *zip(*both, strict=False)]
    for one, two in pairs:
        if one.op != two.op or len(one.inputs) != len(two.inputs):
            return False
        for left, right in zip(one.inputs, two.inputs, strict=True):
            if isinstance(left, Constant) != isinstance(right, Constant):
                return False
            if not isinstance(left, Constant) or not isinstance(right, Constant):
                if left.name != right.name:  # a block before it was left out
                    return False
                continue
            if left.stored is not right.stored and not np.array_equal(left.values, right.values):
                return False
    return len(both[0]) == len(both[1])


def without_later_sums(
    model: Model, targets: Mapping[Node, Target], also: Iterable[Node]
) -> dict[Node, Target]:
    """The targets; of the nodes that write into one sum, only the last makes up for the others.

    Args:
        model: the pruned one, sorted.
        targets: by node.
        also: other nodes that will be changed.
    """
    nodes = [node for node in model.graph.nodes if node in {*targets, *also}]
    upstream = _upstream(model, nodes)
    kept = dict(targets)
    for index, node in enumerate(nodes):
        residual = kept[node].residual if node in kept else None
        # Bits from this node's on stand for what is yet to be changed when its turn comes.
        if residual is not None and upstream.get(residual.shortcut, 0) >> index:
            kept[node] = replace(kept[node], residual=None)
    return kept


def stages(
    model: Model, reads: Mapping[Node, Sequence[Tensor]], sizes: Mapping[Node, int], most: int
) -> list[list[Node]]:
    """Nodes in order, those side by side that do not depend on each other.

    Args:
        model: the pruned one, sorted.
        reads: the nodes to work on, and the tensors that what is done to each depends on.
        sizes: bytes that each holds meanwhile; 0 for those not named.
        most: bytes that a stage may hold; a single node may exceed it.
    """
    nodes = [node for node in model.graph.nodes if node in reads]
    bits = {node: 1 << index for index, node in enumerate(nodes)}
    upstream = _upstream(model, nodes)
    result: list[list[Node]] = []
    stage, held = 0, 0
    for node in nodes:
        over = 0
        for tensor in reads[node]:
            over |= upstream.get(tensor, 0)
        size = sizes.get(node, 0)
        if not result or over & stage or held + size > most:
            result.append([])
            stage, held = 0, 0
        result[-1].append(node)
        stage |= bits[node]
        held += size
    return result


def _upstream(model: Model, nodes: Sequence[Node]) -> dict[Tensor, int]:
    """For each computed tensor the nodes, as bits by index, that it depends on."""
    bits = {node: 1 << index for index, node in enumerate(nodes)}
    upstream: dict[Tensor, int] = {}
    for node in model.graph.nodes:
        over = bits.get(node, 0)
        for each in (node, *node.inner_nodes()):
            for tensor in each.inputs:
                over |= upstream.get(tensor, 0)
        upstream.update(dict.fromkeys(node.outputs, over))
    return upstream
