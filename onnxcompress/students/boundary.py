"""A part of a model between tensors: cut out as a model of its own, and replaced by another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnxcompress.errors import ModelError
from onnxcompress.ir import query
from onnxcompress.ir.clone import clone, rewired
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Graph, Model, Node, Tensor, Variable
from onnxcompress.ir.names import is_meant
from onnxcompress.pass_base import TensorType
from onnxcompress.students.region import BLIND


@dataclass(frozen=True)
class Boundary:
    """A part of a model's main graph.

    Attributes:
        inputs: the computed tensors that it reads; those that were asked for come first.
        outputs: what the rest of the model reads of it.
        nodes: in order.
        asked: how many of the inputs were asked for.
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    nodes: tuple[Node, ...]
    asked: int

    def cut_out(self, model: Model, types: Mapping[str, TensorType]) -> Model:
        """The part as a model that shares its stored tensors' arrays; names are the same."""
        copies: dict[Tensor, Tensor] = {}

        def copy(tensor: Tensor) -> Tensor:
            if tensor not in copies:
                copies[tensor] = _copied(tensor, types)
            return copies[tensor]

        graph = Graph(onnx.GraphProto(name="part"))
        graph.inputs = [_variable(copy(tensor)) for tensor in self.inputs]
        for node in self.nodes:
            graph.nodes.append(rewired(node, copy))
        graph.outputs = [copy(tensor) for tensor in self.outputs]
        envelope = onnx.ModelProto()
        envelope.CopyFrom(model.envelope)
        del envelope.metadata_props[:]
        return Model(graph, envelope)

    def replace(self, edit: Editor, student: Model) -> None:
        """Puts a student, which fits, in the part's place.

        The outputs keep their names. So does whatever the student calls like something of the part:
        recipes that follow may name it.
        """
        copies = insert(edit, student, self.inputs, self.nodes[0])
        for old, result in zip(self.outputs, student.graph.outputs, strict=True):
            new = copies.tensors[result]
            if not isinstance(new, Variable) or new in self.inputs or not new.inputs:
                new = edit.add("Identity", [new], near=self.nodes[0], base=old.name)
            new.dtype, new.shape = old.dtype, old.shape
            returned = edit.model.is_output(old)
            edit.redirect(old, new)
            if not returned:
                old.name, new.name = new.name, old.name
                new.envelope = old.envelope
        inside = set(self.nodes)
        going: dict[str, Tensor] = {each.name: each for each in self._computed()}
        going |= {
            tensor.name: tensor
            for node in self.nodes
            for tensor in node.inputs
            if isinstance(tensor, Constant) and inside.issuperset(tensor.outputs)
        }
        nodes = {node.name: node for node in self.nodes}
        for tensor, copy in copies.tensors.items():
            if tensor.name in going and copy.name != tensor.name and copy not in self.inputs:
                other = going.pop(tensor.name)
                other.name, copy.name = copy.name, other.name
        for node, added in copies.nodes.items():
            if node.name in nodes:
                replaced = nodes.pop(node.name)
                replaced.name, added.name = added.name, replaced.name

    def _computed(self) -> list[Variable]:
        """What is computed inside and not returned."""
        ends = set(self.outputs)
        tensors = [tensor for node in self.nodes for tensor in node.outputs]
        return [each for each in tensors if each.name and each not in ends]


@dataclass(frozen=True)
class Inserted:
    """What a student's tensors and nodes became in another graph."""

    tensors: dict[Tensor, Tensor]
    nodes: dict[Node, Node]


def insert(edit: Editor, student: Model, inputs: Sequence[Variable], near: Node) -> Inserted:
    """Adds a student's nodes to a graph.

    Args:
        edit: of the model that takes them.
        student: its inputs have the names of some of `inputs`.
        inputs: tensors of the model.
        near: the nodes stand beside this one.
    """
    by_name = {tensor.name: tensor for tensor in inputs}
    copies: dict[Tensor, Tensor] = {tensor: by_name[tensor.name] for tensor in student.graph.inputs}
    nodes: dict[Node, Node] = {}
    stored = {constant.name: constant for constant in edit.model.constants()}

    def copy(tensor: Tensor) -> Tensor:
        if tensor not in copies:
            assert isinstance(tensor, Constant)
            known = stored.get(tensor.name)
            if known is not None and known.stored is tensor.stored:  # as it was cut out
                copies[tensor] = known
            else:
                copies[tensor] = edit.constant(tensor.name, tensor.values)
        return copies[tensor]

    for entry in student.envelope.opset_import:
        edit.model.import_domain(entry.domain, entry.version)
    for node in student.graph.nodes:
        read = [None if query.is_omitted(tensor) else copy(tensor) for tensor in node.inputs]
        bases = [tensor.name or f"{node.name}_unused" for tensor in node.outputs]
        added = edit.add_many(node.op, read, near=near, bases=bases, domain=node.domain)
        nodes[node] = added[0].inputs[0]
        nodes[node].attrs.update(node.attrs)
        copies.update(zip(node.outputs, added, strict=True))
    for tensor in student.graph.outputs:
        copy(tensor)
    return Inserted(copies, nodes)


def between(
    model: Model,
    inputs: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, TensorType] | None = None,
) -> Boundary:
    """What lies between named tensors of the main graph.

    That is every node on the way from an input to an output, and the arithmetic on lengths that
    only these read. What they read besides (masks, lengths) becomes an input too.

    Args:
        model: sorted.
        inputs: names of tensors.
        outputs: names of tensors.
        types: of the model's tensors; without them no arithmetic on lengths is taken in.

    Raises:
        ModelError: a tensor does not exist, or is not on any way; or what is computed inside is
            read elsewhere.
    """
    tensors = _tensors(model)
    starts, ends = ([_named(tensors, name) for name in names] for names in (inputs, outputs))
    before = _before(ends, set(starts))
    after: set[Node] = set()
    waiting = [node for tensor in starts for node in tensor.outputs if node.op not in BLIND]
    while waiting:
        node = waiting.pop()
        if node in before and node not in after:
            after.add(node)
            waiting.extend(reader for output in node.outputs for reader in output.outputs)
    for tensor in starts:
        if after.isdisjoint(tensor.outputs):
            raise ModelError(f"no output is made from the input {tensor.name!r} of the part")
    for tensor in ends:
        if query.producer(tensor) not in after:
            raise ModelError(f"the output {tensor.name!r} of the part is not made from its inputs")
    _take_in_lengths(model, after, set(starts), types or {})
    nodes = tuple(node for node in model.graph.nodes if node in after)
    return _checked(model, _boundary(nodes, starts, ends))


def _take_in_lengths(
    model: Model, inside: set[Node], starts: set[Variable], types: Mapping[str, TensorType]
) -> None:
    """Adds nodes that compute lengths, vectors of integers, for nodes inside alone."""
    for node in reversed(model.graph.nodes):
        if node not in inside and all(
            tensor.name in types
            and types[tensor.name].dtype.kind in "iu"
            and len(types[tensor.name].shape) < 2
            and tensor not in starts
            and not model.is_output(tensor)
            and inside.issuperset(tensor.outputs)
            for tensor in node.outputs
        ):
            inside.add(node)


def of_nodes(model: Model, patterns: Iterable[str]) -> Boundary:
    """The nodes of the main graph whose names match any pattern (shell-style).

    Raises:
        ModelError: there is none, or what goes out of the part comes back into it.
    """
    patterns = tuple(patterns)
    nodes = tuple(
        node
        for node in model.graph.nodes
        if any(is_meant(node.name, pattern) for pattern in patterns)
    )
    if not nodes:
        raise ModelError(f"nodes = {', '.join(patterns)} match none of the main graph")
    inside = set(nodes)
    ends = [
        tensor
        for node in nodes
        for tensor in node.outputs
        if model.is_output(tensor) or any(reader not in inside for reader in tensor.outputs)
    ]
    boundary = _boundary(nodes, [], ends)
    behind = _before(list(boundary.inputs), set())
    for node in nodes:
        if node in behind:
            raise ModelError(
                f"nodes = {', '.join(patterns)} are no part: what {node.name!r} computes goes out "
                "and comes back in; take in the nodes between"
            )
    return _checked(model, boundary)


def _boundary(
    nodes: tuple[Node, ...], starts: Sequence[Variable], ends: Sequence[Variable]
) -> Boundary:
    inside = {tensor for node in nodes for tensor in node.outputs}
    read = dict.fromkeys(starts)
    for node in nodes:
        for tensor in node.inputs:
            if isinstance(tensor, Variable) and tensor.name and tensor not in inside:
                read[tensor] = None
    return Boundary(tuple(read), tuple(ends), nodes, len(starts) or len(read))


def _checked(model: Model, boundary: Boundary) -> Boundary:
    inside, ends = set(boundary.nodes), set(boundary.outputs)
    for node in boundary.nodes:
        if any(node.bodies()):
            raise ModelError(f"{node.op} {node.name!r} holds graphs, which are not cut out")
        for tensor in node.outputs:
            others = [reader for reader in tensor.outputs if reader not in inside]
            if tensor not in ends and (others or model.is_output(tensor)):
                reader = others[0].name if others else "the model's caller"
                raise ModelError(
                    f"{tensor.name!r} is computed inside the part and read outside, by "
                    f"{reader!r}: name it among the outputs"
                )
    return boundary


def _before(tensors: Sequence[Variable], stops: set[Variable]) -> set[Node]:
    """All nodes that tensors depend on, no further back than `stops`."""
    found: set[Node] = set()
    waiting: list[Tensor] = list(tensors)
    while waiting:
        node = query.producer(waiting.pop())
        if node is not None and node not in found:
            found.add(node)
            waiting += [tensor for tensor in node.inputs if tensor not in stops]
    return found


def _tensors(model: Model) -> dict[str, Variable]:
    found = {tensor.name: tensor for tensor in model.graph.inputs}
    found |= {each.name: each for node in model.graph.nodes for each in node.outputs if each.name}
    return found


def _named(tensors: Mapping[str, Variable], name: str) -> Variable:
    if name not in tensors:
        near = difflib.get_close_matches(name, tensors, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ModelError(f"the main graph computes no tensor {name!r}{hint}")
    return tensors[name]


def _copied(tensor: Tensor, types: Mapping[str, TensorType]) -> Tensor:
    if isinstance(tensor, Constant):
        return Constant(tensor.name, tensor.stored, tensor.envelope)
    if tensor.name in types:
        known = types[tensor.name]
        return Variable(tensor.name, known.dtype, [None] * len(known.shape))
    return Variable(tensor.name, tensor.dtype, tensor.shape)


def _variable(tensor: Tensor) -> Variable:
    assert isinstance(tensor, Variable)
    return tensor


def shadowed(model: Model, boundary: Boundary, student: Model) -> tuple[Model, dict[str, str]]:
    """A copy that computes the part and the student side by side.

    Returns:
        The copy, and for each output of the part the name of the student's.
    """
    both = clone(model)
    tensors = _tensors(both)
    edit = Editor(both)
    inputs = [tensors[tensor.name] for tensor in boundary.inputs]
    ends = [tensors[tensor.name] for tensor in boundary.outputs]
    near = query.producer(ends[0])
    assert near is not None
    copies = insert(edit, student, inputs, near).tensors
    # What the student is fed must not be what it returns: outputs need names of their own.
    results = [
        edit.add("Identity", [copies[tensor]], near=near, base=f"{end.name}_student")
        for tensor, end in zip(student.graph.outputs, ends, strict=True)
    ]
    edit.finish()
    names = {end.name: result.name for end, result in zip(ends, results, strict=True)}
    return both, names


def domains(model: Model) -> dict[str, int]:
    """Operator sets a model imports, other than the standard one, with their versions."""
    return {
        entry.domain: entry.version
        for entry in model.envelope.opset_import
        if entry.domain not in STANDARD
    }
