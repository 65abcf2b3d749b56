"""The graph in memory: onnx-graphsurgeon's links, with identity semantics and nothing lost.

onnx-graphsurgeon compares nodes and tensors by name and makes them unhashable, which is slow and
wrong once two graphs (an If's branches, say) use one name twice. The subclasses here compare by
identity. What graphsurgeon has no place for stays in an *envelope*: the protobuf message the object
came from, stripped of what the object itself holds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxcompress.ir.sparse import SparseArray
from onnxcompress.ir.stored import StoredArray, stored_bytes

Shape = Sequence[int | str | None]


class Variable(gs.Variable):
    """A tensor whose value is known only at run time; an empty name marks an omitted input."""

    name: str
    dtype: np.dtype | None
    shape: Shape | None
    inputs: list[Node]
    outputs: list[Node]
    envelope: onnx.ValueInfoProto | None

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        name: str,
        dtype: np.dtype | None = None,
        shape: Shape | None = None,
        envelope: onnx.ValueInfoProto | None = None,
    ):
        super().__init__(name, dtype=dtype, shape=shape)
        self.envelope = envelope


class Constant(gs.Constant):
    """A tensor whose value is stored in the model.

    `values` reads stored arrays anew at each access and keeps no reference, so that a weight on
    disk leaves memory as soon as its reader is done with it. Arrays are never edited in place:
    clones of a model share them.
    """

    name: str
    inputs: list[Node]
    outputs: list[Node]
    envelope: onnx.TensorProto | None

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        name: str,
        values: np.ndarray | StoredArray,
        envelope: onnx.TensorProto | None = None,
    ):
        super().__init__(name, _PLACEHOLDER)
        self._values: np.ndarray | StoredArray = values
        self.envelope = envelope

    @property
    def stored(self) -> np.ndarray | StoredArray:
        """The array as it is kept: in memory, or a description of where it lies."""
        return self._values

    @property
    def values(self) -> np.ndarray:
        """The array itself, to be read and not written."""
        return self._values if isinstance(self._values, np.ndarray) else self._values.load()

    @values.setter
    def values(self, values: np.ndarray) -> None:
        self._values = values

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self._values.shape)

    @property
    def dtype(self) -> np.dtype:
        """Element type."""
        return self._values.dtype

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes the array takes in a file: packed under 8 bits an element, sparse without zeros."""
        if isinstance(self._values, SparseArray):
            return self._values.nbytes
        return stored_bytes(self.shape, self.dtype)


_PLACEHOLDER = np.empty(0, np.float32)

Tensor = Variable | Constant


class Node(gs.Node):
    """One operator call; attributes stay as read: `AttributeProto`, or `Graph` for bodies."""

    op: str
    name: str
    domain: str
    inputs: list[Tensor]
    outputs: list[Variable]
    attrs: dict[str, onnx.AttributeProto | Graph]
    envelope: onnx.NodeProto | None

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        op: str,
        name: str = "",
        attrs: dict[str, onnx.AttributeProto | Graph] | None = None,
        inputs: Sequence[Tensor] = (),
        outputs: Sequence[Tensor] = (),
        domain: str = "",
        envelope: onnx.NodeProto | None = None,
    ):
        super().__init__(op, name, dict(attrs or {}), list(inputs), list(outputs), domain)
        self.envelope = envelope

    def __repr__(self) -> str:
        inputs = ", ".join(t.name or "-" for t in self.inputs)
        outputs = ", ".join(t.name or "-" for t in self.outputs)
        domain = f"{self.domain}." if self.domain else ""
        return f"{outputs} = {domain}{self.op}({inputs})  [{self.name}]"

    def int_attr(self, name: str, default: int) -> int:
        """The integer attribute `name`, or the operator's default."""
        value = self.attrs.get(name)
        return int(value.i) if isinstance(value, onnx.AttributeProto) else default

    def ints_attr(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """The integer-list attribute `name`, or the operator's default."""
        value = self.attrs.get(name)
        return tuple(value.ints) if isinstance(value, onnx.AttributeProto) else tuple(default)

    def float_attr(self, name: str, default: float) -> float:
        """The float attribute `name`, or the operator's default."""
        value = self.attrs.get(name)
        return float(value.f) if isinstance(value, onnx.AttributeProto) else default

    def text_attr(self, name: str, default: str) -> str:
        """The string attribute `name`, or the operator's default."""
        value = self.attrs.get(name)
        return value.s.decode() if isinstance(value, onnx.AttributeProto) else default

    def bodies(self) -> Iterator[Graph]:
        """The graphs this node holds: If branches, Loop and Scan bodies."""
        return (value for value in self.attrs.values() if isinstance(value, Graph))

    def inner_nodes(self) -> Iterator[Node]:
        """The nodes in this node's bodies, and in theirs."""
        for body in self.bodies():
            for node in body.nodes:
                yield node
                yield from node.inner_nodes()


class Graph(gs.Graph):
    """Nodes in execution order, with the stored tensors that belong to this graph.

    `initializers` lists what the file stored here, used or not; `defaults` are stored values of
    graph inputs that a caller may override.
    """

    nodes: list[Node]
    inputs: list[Variable]
    outputs: list[Tensor]
    initializers: list[Constant]
    defaults: dict[str, Constant]
    envelope: onnx.GraphProto

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, envelope: onnx.GraphProto):
        super().__init__(name=envelope.name, doc_string=envelope.doc_string)
        self.envelope = envelope
        self.initializers = []
        self.defaults = {}


class Model:
    """An ONNX model: a main graph and what the file says about it.

    Attributes:
        envelope: the ModelProto without its graph: metadata, producer, functions, opsets.
        path: the file it came from, or None.
        files: every file it was read from, resolved; none of them is ever written to.
        notes: what was done to the file's graph to read it, a sentence each.
    """

    def __init__(
        self,
        graph: Graph,
        envelope: onnx.ModelProto,
        path: Path | None = None,
        files: Collection[Path] = (),
        notes: Sequence[str] = (),
    ):
        self.graph = graph
        self.envelope = envelope
        self.path = path
        self.files = frozenset(files)
        self.notes = tuple(notes)

    @property
    def graph(self) -> Graph:
        """The main graph; bodies hang on the attributes of its nodes."""
        return self._graph

    @graph.setter
    def graph(self, graph: Graph) -> None:
        self._graph = graph
        self._returning: list[Graph] | None = None

    def graphs(self) -> Iterator[Graph]:
        """The main graph, then every body, outermost first."""
        waiting = [self.graph]
        while waiting:
            graph = waiting.pop()
            yield graph
            waiting.extend(body for node in graph.nodes for body in node.bodies())

    def nodes(self) -> Iterator[tuple[Graph, Node]]:
        """Every node with the graph it stands in, bodies included."""
        return ((graph, node) for graph in self.graphs() for node in graph.nodes)

    def constants(self) -> list[Constant]:
        """Every stored tensor that a node or a graph output uses, once each."""
        found: dict[Constant, None] = {}
        for graph in self.graphs():
            for node in graph.nodes:
                found.update((t, None) for t in node.inputs if isinstance(t, Constant))
            found.update((t, None) for t in graph.outputs if isinstance(t, Constant))
        return list(found)

    def is_output(self, tensor: Tensor) -> bool:
        """Whether a graph, the main one or a body, returns this tensor."""
        if self._returning is None:  # edits take bodies away, which then return nothing, never add
            self._returning = list(self.graphs())
        return any(tensor is output for graph in self._returning for output in graph.outputs)

    @property
    def opset(self) -> int:
        """The version of the standard operator set the model is written in."""
        return next(
            (entry.version for entry in self.envelope.opset_import if entry.domain in STANDARD), 1
        )

    def import_domain(self, domain: str, version: int) -> None:
        """Declares an operator set, unless the model already imports that domain."""
        if domain not in STANDARD and all(e.domain != domain for e in self.envelope.opset_import):
            self.envelope.opset_import.add(domain=domain, version=version)

    @property
    def parameters(self) -> int:
        """Elements in all stored tensors."""
        return sum(constant.size for constant in self._stored())

    @property
    def weight_bytes(self) -> int:
        """Bytes that all stored tensors take in a file."""
        return sum(constant.nbytes for constant in self._stored())

    @property
    def dense_bytes(self) -> int:
        """Bytes they take where zeros are held too, as a runtime does."""
        return sum(stored_bytes(each.shape, each.dtype) for each in self._stored())

    def _stored(self) -> list[Constant]:
        """Those in use, and the values of inputs that a caller may replace."""
        return [*self.constants(), *self.graph.defaults.values()]


STANDARD = ("", "ai.onnx")
"""The two spellings of the standard operator set's domain."""
