"""Calls of functions that a model defines itself, replaced by what they compute.

PyTorch's exporters and onnxscript write layers as functions. Passes look at nodes, and a layer in a
function is none, so all of them are inlined when a model is loaded. `onnx.inliner` would do so on a
copy of all weights, and drops an attribute that refers to one of the call where the call leaves it
to the function's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
)

from onnxcompress.errors import ModelError
from onnxcompress.ir.names import unique

MOST_NODES: Final = 1_000_000
"""Functions that call each other can stand for more nodes than memory holds."""

_DEEPEST: Final = 100

_KNOWN: Final = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains whose operators onnxruntime has kernels for; a function of theirs says what one means."""

_Key = tuple[str, str, str]


def inline_functions(proto: ModelProto) -> tuple[str, ...]:
    """Inlines the functions of a message in place, as far as that keeps their meaning.

    A function stays if an operator in it means something else in the version of the operator set
    that the model imports.

    Returns:
        A sentence for what was inlined, and one for what was not.

    Raises:
        ModelError: functions call themselves, or stand for more than `MOST_NODES` nodes.
    """
    functions = {_key(each): each for each in proto.functions if each.domain not in _KNOWN}
    if not functions:
        return ()
    versions = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    kept = {key for key, each in functions.items() if not _keeps_meaning(each, versions)}
    _require_few(functions, proto.graph)
    inliner = _Inliner({k: each for k, each in functions.items() if k not in kept}, proto.graph)
    inliner.graph(proto.graph)
    for domain, version in inliner.imported.items():
        if domain not in versions:
            proto.opset_import.add(domain=domain, version=version)
    stay = [each for each in proto.functions if each.domain in _KNOWN or _key(each) in kept]
    # What stays may call what was inlined elsewhere.
    if kept:
        stay = list(proto.functions)
    _replace(proto, "functions", stay)
    _drop_imports(proto, {each.domain for each in functions.values()})
    return tuple(_told(inliner.calls, len(kept)))


def _told(calls: Mapping[_Key, int], kept: int) -> Iterator[str]:
    if calls:
        yield (
            f"{sum(calls.values())} calls of {len(calls)} functions that the model defines were "
            f"inlined, so that what is inside can be seen and compressed"
        )
    if kept:
        yield (
            f"{kept} functions that the model defines were not inlined and stay as they are: they "
            f"are written in another version of an operator set; export the model again in one"
        )


@dataclass(frozen=True)
class _Extent:
    """Nodes that something stands for, and how deep functions call each other in it."""

    nodes: int
    depth: int


def _require_few(functions: Mapping[_Key, FunctionProto], graph: GraphProto) -> None:
    """Counts the nodes that calls stand for before any is made.

    Raises:
        ModelError: functions call themselves or each other too deeply, or stand for too many nodes.
    """
    known: dict[_Key, _Extent] = {}

    def of_nodes(nodes: Iterable[NodeProto], within: tuple[_Key, ...]) -> _Extent:
        total, deepest = 0, 0
        for node in nodes:
            key = _key_of_call(node)
            if key in functions:
                inner = [of_function(key, within)]
            else:
                bodies = (body for attr in node.attribute for body in _bodies(attr))
                inner = [of_nodes(body.node, within) for body in bodies]
            total += 1 + sum(each.nodes for each in inner)
            deepest = max([deepest, *(each.depth for each in inner)])
        return _Extent(total, deepest)

    def of_function(key: _Key, within: tuple[_Key, ...]) -> _Extent:
        if key in within:
            raise ModelError(f"function {'.'.join(key[:2])} calls itself")
        if key not in known:
            if len(within) < _DEEPEST:
                inner = of_nodes(functions[key].node, (*within, key))
                known[key] = _Extent(inner.nodes, inner.depth + 1)
            if key not in known or known[key].depth > _DEEPEST:
                raise ModelError(f"its functions call each other more than {_DEEPEST} deep")
        return known[key]

    if of_nodes(graph.node, ()).nodes > MOST_NODES:
        raise ModelError(f"its functions stand for more than {MOST_NODES} nodes")


class _Inliner:
    def __init__(self, functions: Mapping[_Key, FunctionProto], graph: GraphProto) -> None:
        self.functions = functions
        self.calls: dict[_Key, int] = {}
        self.imported: dict[str, int] = {}
        self._taken = set(_names(graph))

    def graph(self, graph: GraphProto) -> None:
        """Inlines what a graph and its bodies call."""
        _replace(graph, "node", [each for node in graph.node for each in self.node(node)])

    def node(self, node: NodeProto) -> Iterator[NodeProto]:
        """The node itself, or what the function that it calls computes."""
        key = _key_of_call(node)
        function = self.functions.get(key)
        if function is None:
            for attr in node.attribute:
                for body in _bodies(attr):
                    inner = [each for one in body.node for each in self.node(one)]
                    _replace(body, "node", inner)
            yield node
            return
        self.calls[key] = self.calls.get(key, 0) + 1
        self.imported.update((_domain(e.domain), e.version) for e in function.opset_import)
        for made in self._body(node, function):
            yield from self.node(made)

    def _body(self, call: NodeProto, function: FunctionProto) -> Iterator[NodeProto]:
        """The function's nodes with the call's tensors and attributes in the place of its own."""
        names = dict.fromkeys(function.input, "")
        names.update(zip(function.input, call.input, strict=False))
        prefix = call.name or (call.output[0] if call.output else function.name)
        wanted = dict(zip(function.output, call.output, strict=False))
        passed = [(names[name], wanted[name]) for name in wanted if name in names and wanted[name]]
        names.update((k, v) for k, v in wanted.items() if v and k not in names)
        given = {attr.name: attr for attr in (*function.attribute_proto, *call.attribute)}
        for node in function.node:
            copy = NodeProto()
            copy.CopyFrom(node)
            self._bind(copy, names, given, prefix)
            yield copy
        for source, target in passed:  # what a function returns as it came in
            yield onnx.helper.make_node("Identity", [source], [target], name=f"{prefix}/{target}")

    def _bind(
        self,
        node: NodeProto,
        names: dict[str, str],
        given: Mapping[str, AttributeProto],
        prefix: str,
    ) -> None:
        """Renames what a node reads, then what it makes, and puts values for references."""
        node.name = f"{prefix}/{node.name}" if node.name else ""
        attributes = []
        for attr in node.attribute:
            if attr.ref_attr_name:
                value = given.get(attr.ref_attr_name)
                if value is None:  # left out by the call, and without a default: left out here
                    continue
                bound = AttributeProto()
                bound.CopyFrom(value)
                bound.name = attr.name
                attributes.append(bound)
                continue
            for body in _bodies(attr):
                self._bind_body(body, names, given, prefix)
            attributes.append(attr)
        _replace(node, "attribute", attributes)
        # A name that nothing in the function defines is one of a body that stands around.
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [self._fresh(name, names, prefix) for name in node.output]

    def _bind_body(
        self,
        body: GraphProto,
        outer: Mapping[str, str],
        given: Mapping[str, AttributeProto],
        prefix: str,
    ) -> None:
        names = dict(outer)
        own: list[ValueInfoProto | TensorProto] = [*body.input, *body.initializer]
        for tensor in own:
            names.pop(tensor.name, None)  # it hides one of that name outside
        for tensor in own:
            tensor.name = self._fresh(tensor.name, names, prefix)
        for sparse in body.sparse_initializer:
            names.pop(sparse.values.name, None)
            sparse.values.name = self._fresh(sparse.values.name, names, prefix)
        for node in body.node:
            for name in node.output:
                names.pop(name, None)
            self._bind(node, names, given, prefix)
        for info in (*body.output, *body.value_info):
            info.name = names.get(info.name, info.name)

    def _fresh(self, name: str, names: dict[str, str], prefix: str) -> str:
        """The name in the model of a tensor that a function makes."""
        if name and not names.get(name):
            names[name] = unique(f"{prefix}/{name}", self._taken)
            self._taken.add(names[name])
        return names[name] if name else ""


def _keeps_meaning(function: FunctionProto, versions: Mapping[str, int]) -> bool:
    """Whether its operators mean the same in the versions that the model imports."""
    own = {_domain(entry.domain): entry.version for entry in function.opset_import}
    differing = {d for d, version in own.items() if versions.get(d, version) != version}
    for node in _all_nodes(function.node):
        domain = _domain(node.domain)
        if domain not in differing or domain not in _KNOWN:
            continue
        if _since(node.op_type, domain, own[domain]) != _since(
            node.op_type, domain, versions[domain]
        ):
            return False
    return True


def _since(op: str, domain: str, version: int) -> int | None:
    try:
        found = onnx.defs.get_schema(op, max_inclusive_version=version, domain=domain)
    except onnx.defs.SchemaError:
        return None
    return int(found.since_version)


def _drop_imports(proto: ModelProto, domains: set[str]) -> None:
    """Forgets domains of functions that nothing calls any more."""
    nodes = [*_all_nodes(proto.graph.node), *(n for f in proto.functions for n in f.node)]
    used = {each.domain for each in nodes} | {each.domain for each in proto.functions}
    kept = [e for e in proto.opset_import if e.domain not in domains or e.domain in used]
    _replace(proto, "opset_import", kept)


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attr in node.attribute:
            for body in _bodies(attr):
                yield from _all_nodes(body.node)


def _names(graph: GraphProto) -> Iterator[str]:
    """Every tensor's name in a graph and its bodies."""
    yield from (info.name for info in (*graph.input, *graph.output))
    yield from (tensor.name for tensor in graph.initializer)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    for node in graph.node:
        yield from (*node.input, *node.output)
        for attr in node.attribute:
            for body in _bodies(attr):
                yield from _names(body)


def _bodies(attr: AttributeProto) -> Iterator[GraphProto]:
    if attr.HasField("g"):
        yield attr.g
    yield from attr.graphs


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _key(function: FunctionProto) -> _Key:
    return function.domain, function.name, function.overload


def _key_of_call(node: NodeProto) -> _Key:
    return node.domain, node.op_type, node.overload


def _replace(
    message: ModelProto | GraphProto | NodeProto, field: str, values: Iterable[object]
) -> None:
    """Puts `values`, which may be some of them, in the place of what a repeated field holds."""
    taken = list(values)
    message.ClearField(field)
    getattr(message, field).extend(taken)
