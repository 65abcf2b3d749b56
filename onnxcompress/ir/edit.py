"""Editing a graph so that every change and every skip is on record."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx

from onnxcompress.errors import ModelError
from onnxcompress.ir.model import Constant, Graph, Model, Node, Shape, Tensor, Variable
from onnxcompress.ir.names import unique
from onnxcompress.ir.sparse import SparseArray
from onnxcompress.ir.stored import Spill

Attribute = (
    int
    | float
    | str
    | Sequence[int]
    | Sequence[float]
    | Sequence[str]
    | np.ndarray
    | onnx.TensorProto
)


class Action(Enum):
    """What an edit did to a node."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class Change:
    """One recorded edit."""

    action: Action
    node: str
    op: str
    detail: str = ""


@dataclass(frozen=True)
class Skip:
    """A candidate that a pass left alone, with its reason."""

    node: str
    op: str
    reason: str


class Editor:
    """The one way to change a `Model`. Node lists are brought up to date by `finish`.

    Until then `Graph.nodes` stays as it was, so a pass may loop over it while it edits; links
    between nodes and tensors are always current.
    """

    def __init__(self, model: Model):
        self.model = model
        self.changes: list[Change] = []
        self.skips: list[Skip] = []
        self._graph_of = {node: graph for graph, node in model.nodes()}
        self._names = _all_names(model)
        self._placed: dict[Node, list[Node]] = {}
        self._removed: set[Node] = set()
        self._shared: dict[tuple[str, tuple[int, ...], bytes], Constant] = {}
        self._redirected = False
        self._spill = Spill()

    @property
    def modified(self) -> bool:
        """Whether anything was changed; a `redirect` that changes readers alone counts too."""
        return bool(self.changes) or self._redirected

    def skip(self, node: Node, reason: str) -> None:
        """Records that `node` was a candidate and was left alone."""
        self.skips.append(Skip(node.name, node.op, reason))

    def constant(self, base: str, values: np.ndarray | SparseArray) -> Constant:
        """A new stored tensor; it reaches the file once a node reads it.

        Args:
            base: what to call it; made unique.
            values: any shape and dtype that ONNX stores; must not be written to afterwards. A
                sparse one is stored sparse.
        """
        if isinstance(values, SparseArray):
            return Constant(self._take(base), values)
        values = np.asarray(values)
        values.flags.writeable = False
        return Constant(self._take(base), self._spill.keep(values))

    def shared(self, base: str, values: np.ndarray) -> Constant:
        """A stored tensor for all in this edit that ask for these very values; see `constant`."""
        values = np.asarray(values)
        key = _key(values)
        if key not in self._shared:
            self._shared[key] = self.constant(base, values)
        return self._shared[key]

    def known(self, values: np.ndarray) -> Constant | None:
        """What `shared` has made of these very values in this edit."""
        return self._shared.get(_key(values))

    def add(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        *,
        near: Node,
        base: str,
        attrs: Mapping[str, Attribute] | None = None,
        domain: str = "",
        dtype: np.dtype | None = None,
        shape: Shape | None = None,
    ) -> Variable:
        """Adds a node with one output, which it returns.

        Args:
            op: operator name; the domain is declared in the model if it is not a standard one.
            inputs: None stands for an optional input that is omitted.
            near: the node stands beside this one, in the same graph.
            base: what to call the output; made unique.
            attrs: attributes by name.
            domain: the operator's domain, standard by default.
            dtype: the output's element type, if known.
            shape: the output's shape, if known.
        """
        return self.add_many(
            op, inputs, near=near, bases=[base], attrs=attrs, domain=domain, like=(dtype, shape)
        )[0]

    def add_many(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        *,
        near: Node,
        bases: Sequence[str],
        attrs: Mapping[str, Attribute] | None = None,
        domain: str = "",
        like: tuple[np.dtype | None, Shape | None] = (None, None),
    ) -> list[Variable]:
        """Adds a node with one output for each name in `bases`; see `add`."""
        outputs = [Variable(self._take(base), *like) for base in bases]
        node = Node(
            op,
            self._take(f"{op}_{outputs[0].name}"),
            {key: onnx.helper.make_attribute(key, value) for key, value in (attrs or {}).items()},
            [Variable("") if tensor is None else tensor for tensor in inputs],
            outputs,
            domain,
        )
        self.model.import_domain(domain, 1)
        self._graph_of[node] = self._graph_of[near]
        self._placed.setdefault(near, []).append(node)
        self._record(Action.ADDED, node)
        return outputs

    def set_input(self, node: Node, index: int, tensor: Tensor, detail: str = "") -> None:
        """Makes one node read another tensor; inputs omitted before it are filled in as omitted."""
        while len(node.inputs) <= index:
            node.inputs.append(Variable(""))
        node.inputs[index] = tensor
        self._record(Action.CHANGED, node, detail or f"input {index} is now {tensor.name}")

    def drop_input(self, node: Node, index: int, detail: str = "") -> None:
        """Removes an input and those after it."""
        while len(node.inputs) > index:  # graphsurgeon's lists do not take slices
            node.inputs.pop()
        self._record(Action.CHANGED, node, detail or f"input {index} removed")

    def set_values(self, node: Node, index: int, values: np.ndarray, detail: str = "") -> None:
        """Gives one node new values for a stored input; other readers of it keep theirs."""
        old = node.inputs[index]
        self.set_input(
            node, index, self.constant(old.name or f"{node.name}_{index}", values), detail
        )

    def set_stored(self, constant: Constant, values: np.ndarray, detail: str = "") -> None:
        """Gives a stored tensor new values, for all that read it."""
        constant.values = values
        self.changes.append(Change(Action.CHANGED, constant.name, "initializer", detail))

    def replace_model(self, other: Model, detail: str) -> None:
        """Puts another model in the place of this one, before any other edit."""
        self.model.graph, self.model.envelope = other.graph, other.envelope
        self.model.files |= other.files
        self._graph_of = {node: graph for graph, node in other.nodes()}
        self._names = _all_names(other)
        self.changes.append(Change(Action.CHANGED, other.graph.name, "graph", detail))

    def set_attribute(self, node: Node, name: str, value: Attribute) -> None:
        """Sets an attribute."""
        kind = onnx.AttributeProto.INTS if value == [] else None  # which onnx cannot guess
        node.attrs[name] = onnx.helper.make_attribute(name, value, attr_type=kind)
        self._record(Action.CHANGED, node, f"{name} = {value}")

    def redirect(self, old: Variable, new: Tensor, *, keep: Collection[Node] = ()) -> None:
        """Makes every reader of `old`, graph outputs included, read `new` instead.

        A graph output keeps its name and what the file says of it: `new` takes both over, or is
        copied by an Identity if it has a name of its own to keep. An input that a graph returns as
        it stands is still returned.

        Args:
            old: the tensor that loses its readers.
            new: the tensor that gains them.
            keep: nodes that go on reading `old`.
        """
        kept = set(keep)
        self._redirected = True
        for reader in dict.fromkeys(old.outputs):
            if reader in kept:
                continue
            for index, tensor in enumerate(list(reader.inputs)):
                if tensor is old:
                    reader.inputs[index] = new
        if not old.inputs or not self.model.is_output(old):
            return
        output = self._as_output(old, new)
        for graph in self.model.graphs():
            graph.outputs[:] = [output if tensor is old else tensor for tensor in graph.outputs]

    def _as_output(self, old: Variable, new: Tensor) -> Variable:
        writer = new.inputs[0] if new.inputs else None
        near = old.inputs[0]
        same_graph = writer is not None and self._graph_of[writer] is self._graph_of[near]
        if not isinstance(new, Variable) or not same_graph or self.model.is_output(new):
            dtype, shape = new.dtype, new.shape
            new = self.add(
                "Identity", [new], near=near, base=f"{old.name}_output", dtype=dtype, shape=shape
            )
        old.name, new.name = new.name, old.name
        if old.envelope is not None:
            new.envelope, new.dtype, new.shape = old.envelope, old.dtype, old.shape
        return new

    def remove(self, node: Node) -> None:
        """Takes a node out; whatever reads its outputs must have been redirected before.

        Raises:
            ModelError: an output is still read.
        """
        for output in node.outputs:
            if output.outputs or self.model.is_output(output):
                raise ModelError(f"node {node.name!r} ({node.op}) is still read at {output.name!r}")
        for inner in [*node.inner_nodes()]:
            inner.inputs.clear()
        for body in node.bodies():
            body.outputs.clear()
        node.inputs.clear()
        node.outputs.clear()
        self._removed.add(node)
        self._record(Action.REMOVED, node)

    def bypass(self, node: Node) -> None:
        """Removes a node whose first output equals its first input."""
        self.redirect(node.outputs[0], node.inputs[0])
        self.remove(node)

    def remove_initializer(self, graph: Graph, constant: Constant) -> None:
        """Takes a stored tensor out of a graph's list; it must be unused."""
        graph.initializers.remove(constant)
        self.changes.append(Change(Action.REMOVED, constant.name, "initializer"))

    def finish(self) -> None:
        """Brings the node lists up to date with what was added and removed."""
        for graph in self.model.graphs():
            nodes: list[Node] = []
            waiting = list(reversed(graph.nodes))
            while waiting:
                node = waiting.pop()
                if node not in self._removed:
                    nodes.append(node)
                waiting.extend(reversed(self._placed.pop(node, ())))
            graph.nodes[:] = nodes
        self._removed.clear()

    def _take(self, base: str) -> str:
        name = unique(base, self._names)
        self._names.add(name)
        return name

    def _record(self, action: Action, node: Node, detail: str = "") -> None:
        self.changes.append(Change(action, node.name, node.op, detail))


def _key(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return values.dtype.name, values.shape, hashlib.sha256(values.tobytes()).digest()


def _all_names(model: Model) -> set[str]:
    names: set[str] = set()
    for graph in model.graphs():
        names.update(t.name for t in [*graph.inputs, *graph.outputs, *graph.initializers])
        for node in graph.nodes:
            names.add(node.name)
            names.update(tensor.name for tensor in [*node.inputs, *node.outputs])
    return names
