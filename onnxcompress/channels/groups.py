"""Dependency groups: which channels, heads, neurons or units of a model can be cut, and how.

Source of the idea: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023. Here the
dependencies are found slot by slot, so that Concat, Split and heads need no rules of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcompress.channels.history import is_followed
from onnxcompress.channels.reshape import Choices, tie_reshape
from onnxcompress.channels.shape_source import shape_input, trace
from onnxcompress.channels.space import Axis, Space
from onnxcompress.channels.streams import Streams
from onnxcompress.channels.table import RESHAPING, SHAPE_ONLY, TIES
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context

_MOST_ROUNDS = 50
"""Times that choices of axes may change; each is a walk over the graph."""


@dataclass(frozen=True, eq=False)
class Group:
    """Units that are alike: any of them can be cut, but not all.

    Attributes:
        name: of the first node with a weight that the units are a part of.
        nodes: nodes whose weights lose something when a unit goes, in order.
        units: int64 [units, slots]: the slots that go with each unit.
        axes: the axes that these slots lie on.
        is_stream: whether units run through the sums of a residual network; see `streams`.
    """

    name: str
    nodes: tuple[Node, ...]
    units: np.ndarray
    axes: tuple[Axis, ...]
    is_stream: bool = False

    def __len__(self) -> int:
        return len(self.units)

    def slots_per_unit(self, axis: Axis) -> int:
        """How many slots of an axis go with each unit: more than one for an attention head."""
        first = self.units[0]
        return int(np.sum((first >= axis.start) & (first < axis.start + axis.length)))


@dataclass(frozen=True)
class Unprunable:
    """Channels of a weight that stay, with the reason."""

    node: Node
    channels: int
    reason: str


@dataclass(frozen=True)
class Groups:
    """The dependency groups of a model."""

    space: Space
    groups: tuple[Group, ...]
    skipped: tuple[Unprunable, ...]

    def followed(self, edit: Editor, at: Callable[[Node], object]) -> Groups:
        """Without the groups of which a node is excluded.

        Args:
            edit: is told of those, and of what cannot be followed.
            at: the options that hold for a node, None for none; see `Pass.at`.
        """
        for each in self.skipped:
            edit.skip(each.node, f"{each.channels} channels stay: {each.reason}")
        found = []
        for group in self.groups:
            if any(at(node) is None for node in group.nodes):
                edit.skip(group.nodes[0], EXCLUDED)
            else:
                found.append(group)
        return self.only(found)

    def only(self, groups: Sequence[Group]) -> Groups:
        """Some of the groups, in the same space."""
        return replace(self, groups=tuple(groups))

    def split(self, by: Callable[[Group], bool]) -> tuple[Groups, Groups]:
        """The groups that something holds for, and the others."""
        return (
            self.only([each for each in self.groups if by(each)]),
            self.only([each for each in self.groups if not by(each)]),
        )


def find_groups(model: Model, context: Context) -> Groups:
    """Finds the dependency groups of a model's main graph.

    Args:
        model: as it is; shapes are taken from running a sample.
        context: lends tensor types.
    """
    types = context.types(model)
    choices = Choices()
    for _ in range(_MOST_ROUNDS):
        space = Space(model, types)
        _tie(space, model, choices)
        labels = space.components()
        reasons = space.fixed(labels)
        if not choices.advance(labels, _stuck(space, labels), _stuck(space)):
            break
    return _grouped(space, Streams(space, model.graph.nodes), labels, reasons)


def _stuck(space: Space, labels: np.ndarray | None = None) -> np.ndarray:
    """Which slots are fixed, or tied to one that is all there is of an axis.

    Args:
        space: of the model.
        labels: the components; by default those that hold whatever is chosen.
    """
    chosen = labels is not None
    labels = space.components(chosen=False) if labels is None else labels
    alone = [axis.start for axis in space.axes if axis.length == 1]
    lost = [*space.fixed(labels, chosen=chosen), *labels[alone].tolist()]
    return np.isin(labels, np.array(lost, np.int64))


def _tie(space: Space, model: Model, choices: Choices) -> None:
    inner = {
        tensor
        for node in model.graph.nodes
        for each in node.inner_nodes()
        for tensor in each.inputs
    }
    for tensor in inner:
        space.fix_tensor(tensor, f"{tensor.name!r} is read in a body (If, Loop, Scan)")
    for tensor in model.graph.inputs:
        space.fix_tensor(tensor, f"{tensor.name!r} is an input of the model")
    for tensor in model.graph.outputs:
        space.fix_tensor(tensor, f"{tensor.name!r} is an output of the model")
    for node in model.graph.nodes:
        _tie_node(space, node, choices)


def _tie_node(space: Space, node: Node, choices: Choices) -> None:
    if node.op == "Shape" and node.domain in STANDARD:
        return
    known = all(space.knows(t) for t in _shaped(node))
    rule = TIES.get(node.op)
    if node.domain not in STANDARD or not known or not is_followed(node, space.opset):
        rule, known = None, False
    elif node.op in RESHAPING:
        tie_reshape(space, node, choices)
    elif rule is not None:
        rule(space, node)
    elif node.op not in SHAPE_ONLY:
        known = False
    if node.domain not in STANDARD or not known:
        space.fix_all(node, f"{node.op} {node.name!r} is not followed")
    elif (place := shape_input(node)) is not None:
        _fix_unclear(space, node, place)


def _shaped(node: Node) -> list[Tensor]:
    return [t for t in [*node.inputs, *node.outputs] if not query.is_omitted(t)]


def _fix_unclear(space: Space, node: Node, place: int) -> None:
    """Fixes axes whose length is computed from more than shapes."""
    if space.numbers(node.inputs[place]) is not None:
        return
    for axis in space.axes_of(node.outputs[0]):
        if axis.length > 1 and trace(space, node, place, axis.axis) is None:
            space.fix(axis.slots, f"its length is computed for {node.op} {node.name!r}")


def _grouped(
    space: Space, streams: Streams, labels: np.ndarray, reasons: Mapping[int, int]
) -> Groups:
    owner = np.empty(space.size, np.int64)
    for number, axis in enumerate(space.axes):
        owner[axis.start : axis.start + axis.length] = number
    weighed = np.zeros(space.size, bool)
    for tensor, place in space.parameters:
        weighed[space.axis(tensor, place)] = True
    candidates = np.unique(labels[weighed])
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], candidates)
    ends = np.searchsorted(labels[order], candidates, side="right")
    alike: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
    for label, start, end in zip(candidates.tolist(), starts, ends, strict=True):
        if label not in reasons:
            slots = order[start:end]
            alike[tuple(owner[slots].tolist())].append(slots)
    groups = [
        _group(space, streams, tuple(dict.fromkeys(axes)), np.stack(units))
        for axes, units in alike.items()
    ]
    single = [
        Unprunable(group.nodes[0], group.units.size, "they can only go all together")
        for group in groups
        if len(group) == 1 and group.nodes and _is_wide(group)
    ]
    skipped = (*_skipped(space, labels, reasons), *single)
    return Groups(space, tuple(group for group in groups if len(group) > 1), skipped)


def _is_wide(group: Group) -> bool:
    """Whether a unit is more than an axis of length 1."""
    return any(axis.length > 1 for axis in group.axes)


def _group(space: Space, streams: Streams, numbers: Sequence[int], units: np.ndarray) -> Group:
    axes = tuple(space.axes[number] for number in numbers)
    weights = [a.tensor for a in axes if (a.tensor, a.axis) in space.parameters]
    nodes = dict.fromkeys(node for weight in weights for node in weight.outputs)
    name = next(iter(nodes)).name if nodes else weights[0].name
    is_stream = streams.holds({axis.tensor: None for axis in axes}, units)
    return Group(name, tuple(nodes), units, axes, is_stream)


def _skipped(space: Space, labels: np.ndarray, reasons: Mapping[int, int]) -> list[Unprunable]:
    found: dict[tuple[Node, str], Unprunable] = {}
    for tensor, axis in space.parameters:
        slots = space.axis(tensor, axis)
        if len(slots) < 2 or not tensor.outputs or len(space.shape(tensor)) < 2:
            continue
        held = [reasons[label] for label in labels[slots].tolist() if label in reasons]
        if held:
            node, reason = tensor.outputs[0], space.reasons[held[0]]
            found.setdefault((node, reason), Unprunable(node, len(held), reason))
    return list(found.values())
