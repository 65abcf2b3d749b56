"""Raising a model to a later standard operator set."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import inliner, version_converter

from onnxcompress.errors import ModelError
from onnxcompress.ir.clone import clone
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import STANDARD, Constant, Graph, Model, Node, Tensor, Variable
from onnxcompress.ir.names import unique
from onnxcompress.ir.opset_changes import HIDDEN, hide, rewrite
from onnxcompress.ir.sort import sort
from onnxcompress.ir.to_proto import export_model

_BIG = 4096  # bytes; the converter reads shapes, axes and scales, never weights
_READ = (np.float32, np.int64, np.int32, np.bool_)
_NODES_SHOWN = 3
_ONNX_SINCE = {22: "1.17", 23: "1.18", 24: "1.19", 25: "1.20", 26: "1.21"}
_LOWEST_IR = 4  # before it, initializers are inputs, which the converter does not understand


def require_opset(model: Model, version: int) -> bool:
    """Rewrites the model in a later standard opset, in place, if it is older.

    Weights do not pass through the converter, so neither size nor element type matters, and what
    it forgets (doc strings, metadata, declared shapes) is put back. Functions of the model's own,
    which onnxruntime reads in the model's opset, are inlined if they are older.

    Returns:
        Whether anything was done.

    Raises:
        ModelError: a node cannot be converted; the converter's reason is given. Or the installed
            onnx does not know that opset.
    """
    if model.opset >= version:
        return False
    before = model.opset
    if version > onnx.defs.onnx_opset_version():
        needed = _ONNX_SINCE.get(version, "a later version")
        raise ModelError(
            f"opset {version} needs onnx {needed} or newer; this is {onnx.__version__}"
        )
    envelope = onnx.ModelProto()
    envelope.CopyFrom(model.envelope)
    entries = [entry for entry in envelope.opset_import if entry.domain in STANDARD]
    for entry in entries or [envelope.opset_import.add()]:
        entry.version = version
    lowest = onnx.helper.find_min_ir_version_for(list(envelope.opset_import), True)
    envelope.ir_version = max(envelope.ir_version, lowest, _LOWEST_IR)
    if entries:
        draft = clone(model)
        kept = _without_weights(draft, envelope.ir_version)
        try:
            if _has_older_functions(model, version):
                inlined = inliner.inline_local_functions(export_model(draft), convert_version=True)
                draft = import_model(inlined)
                del envelope.functions[:]
            del draft.envelope.functions[:]
            _tell_types(draft, hide(draft, version))
            converted = version_converter.convert_version(export_model(draft), version)
            converted.ir_version = envelope.ir_version
            graph = import_model(converted).graph
            _put_back(graph, kept)
            _forget_symbols(graph, model.graph)
            _restore(graph, model.graph)
            rewrite(Model(graph, envelope), before)
            sort(graph)
        except Exception as fault:  # the converter raises RuntimeError, ValueError and its own
            reason = " ".join(str(fault).split()) or repr(fault)
            raise ModelError(
                f"{cannot_be_raised(before, version)}: {_at_fault(model, version, reason)}{reason}"
            ) from fault
        model.graph = graph
    model.envelope = envelope
    return True


def cannot_be_raised(before: int, version: int) -> str:
    """How a message about a model that stays in its operator set begins."""
    return f"cannot be raised from opset {before} to {version}"


def _tell_types(draft: Model, hidden: list[Node]) -> None:
    """Writes down what is known of the outputs of nodes that the converter does not know."""
    told = [t for node in hidden for t in node.outputs if t.name and t.envelope is None]
    if not told:
        return
    for node in hidden:
        node.domain = ""
    inferred = onnx.shape_inference.infer_shapes(export_model(draft)).graph.value_info
    for node in hidden:
        node.domain = HIDDEN
    types = {info.name: info for info in inferred if info.type.HasField("tensor_type")}
    for tensor in told:
        if tensor.name in types and tensor.shape is None:
            tensor.envelope = types[tensor.name]


def _forget_symbols(new: Graph, old: Graph) -> None:
    """Drops lengths that the converter made up a name for: it has one for several lengths."""
    known = {
        length
        for graph in Model(old, onnx.ModelProto()).graphs()
        for tensor in _tensors(graph)
        for length in tensor.shape or ()
        if isinstance(length, str)
    }
    for graph in Model(new, onnx.ModelProto()).graphs():
        for tensor in _tensors(graph):
            if isinstance(tensor, Variable) and tensor.shape is not None:
                shape = [None if isinstance(n, str) and n not in known else n for n in tensor.shape]
                if shape != list(tensor.shape):
                    tensor.shape, tensor.envelope = shape, None


def _at_fault(model: Model, version: int, reason: str) -> str:
    """Which nodes the converter most likely means: it names operators at best."""
    if reason.startswith("node "):
        return ""
    standard = [node for _, node in model.nodes() if node.domain in STANDARD]
    named = [node for node in standard if node.op in reason]
    unknown = [node for node in named or standard if not onnx.defs.has(node.op, version)]
    shown = [f"{node.name!r} ({node.op})" for node in (unknown or named)[:_NODES_SHOWN]]
    return f"node {' or '.join(shown)}: " if shown else ""


def _without_weights(draft: Model, ir_version: int) -> dict[str, Constant]:
    """Turns weights into graph inputs, by names of their own, and drops what nothing reads."""
    kept: dict[str, Constant] = {}
    taken = {tensor.name for graph in draft.graphs() for tensor in _tensors(graph)}
    graphs = list(draft.graphs())
    for constant in draft.constants():
        dense = isinstance(constant.stored, np.ndarray)
        if dense and constant.nbytes < _BIG and constant.dtype in _READ:
            continue
        name = unique(f"{constant.name}_kept", taken)
        taken.add(name)
        kept[name] = constant
        variable = Variable(name, constant.dtype, constant.shape)
        _replace(graphs, constant, variable)
        draft.graph.inputs.append(variable)
    for graph in graphs:
        graph.initializers = [c for c in graph.initializers if c.outputs]
        graph.defaults = {}
    del draft.envelope.training_info[:]
    draft.envelope.ir_version = ir_version
    for entry in draft.envelope.opset_import:
        entry.domain = "" if entry.domain in STANDARD else entry.domain
    return kept


def _has_older_functions(model: Model, version: int) -> bool:
    imports = [entry for function in model.envelope.functions for entry in function.opset_import]
    return any(entry.domain in STANDARD and entry.version < version for entry in imports)


def _put_back(graph: Graph, kept: dict[str, Constant]) -> None:
    """Undoes `_without_weights` after conversion."""
    graphs = list(Model(graph, onnx.ModelProto()).graphs())
    for variable in [tensor for tensor in graph.inputs if tensor.name in kept]:
        old = kept[variable.name]
        _replace(graphs, variable, Constant(old.name, old.stored, old.envelope))
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in kept]


def _replace(graphs: list[Graph], old: Tensor, new: Tensor) -> None:
    for reader in dict.fromkeys(old.outputs):
        for index, tensor in enumerate(list(reader.inputs)):
            if tensor is old:
                reader.inputs[index] = new
    for graph in graphs:
        graph.outputs[:] = [new if tensor is old else tensor for tensor in graph.outputs]


def _restore(new: Graph, old: Graph) -> None:
    """Gives a converted graph what the file said of it, of its nodes and of its tensors."""
    new.envelope, new.defaults = old.envelope, dict(old.defaults)
    described = {tensor.name: tensor for tensor in _tensors(old)}
    stored: dict[str, Constant] = {}
    for tensor in _tensors(new):
        source = described.get(tensor.name)
        if isinstance(tensor, Constant):
            stored[tensor.name] = tensor
            if isinstance(source, Constant):
                tensor.envelope = source.envelope
        elif (
            isinstance(source, Variable)
            and source.envelope is not None
            and tensor.dtype in (source.dtype, None)  # Dropout's mask, say, became bool
        ):
            tensor.dtype, tensor.shape = source.dtype, source.shape
            tensor.envelope = source.envelope
    new.initializers = [
        stored.get(c.name) or Constant(c.name, c.stored, c.envelope)
        for c in old.initializers
        if c.name in stored or not c.outputs
    ]
    nodes = {node.name: node for node in old.nodes}
    for node in new.nodes:
        source_node = nodes.get(node.name)
        if source_node is None or source_node.op != node.op:
            continue
        node.envelope = source_node.envelope
        for key, body in node.attrs.items():
            source_body = source_node.attrs.get(key)
            if isinstance(body, Graph) and isinstance(source_body, Graph):
                _restore(body, source_body)


def _tensors(graph: Graph) -> list[Tensor]:
    read = [t for node in graph.nodes for t in node.inputs if isinstance(t, Constant)]
    written = [t for node in graph.nodes for t in node.outputs if t.name]
    return [*graph.inputs, *graph.initializers, *read, *graph.outputs, *written]
