"""How many bytes the results of nodes take, before any of them is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx

from onnxcompress.ir import elements, query
from onnxcompress.ir.model import STANDARD, Constant, Model, Node
from onnxcompress.ir.to_proto import export_model
from onnxcompress.runtime.part import part_of

_MOST_SAID: Final = 1024
"""Elements of a stored tensor that may say how large others are: shapes, counts, repeats."""

_MADE_OF_INPUTS: Final = {
    **dict.fromkeys(("Compress", "Unique", "StringSplit", "Optional", "OptionalGetElement"), 3),
    **dict.fromkeys(("SequenceConstruct", "SequenceAt", "SequenceInsert", "SequenceErase"), 1),
    **dict.fromkeys(("SplitToSequence", "ConcatFromSequence", "SequenceEmpty", "Identity"), 1),
    **dict.fromkeys(("RegexFullMatch", "StringConcat", "StringNormalizer", "TfIdfVectorizer"), 1),
    "NonZero": 64,  # eight bytes for each axis of a bool, of at most eight axes
}
"""Operators whose results depend on values, but never take more than so many times their inputs
and a little."""

_LITTLE: Final = 1024


def sizes_of_results(
    model: Model, nodes: Sequence[Node], found: Mapping[str, np.ndarray]
) -> Mapping[str, int]:
    """Bytes of the results of `nodes` by name, as far as ONNX's shape inference tells them.

    Args:
        model: where they stand.
        nodes: in execution order.
        found: what others of them gave.
    """
    part = part_of(model, nodes, _tensors(found), most_stored=_MOST_SAID)
    part.graph.outputs = []
    proto = export_model(part)
    # Inference knows the short name of the standard domain alone.
    for entry in proto.opset_import:
        entry.domain = "" if entry.domain in STANDARD else entry.domain
    for message in proto.graph.node:
        message.domain = "" if message.domain in STANDARD else message.domain
    try:  # not data_prop, which computes values without bounds itself
        inferred = onnx.shape_inference.infer_shapes(proto)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    return {
        info.name: size
        for info in inferred.graph.value_info
        if (size := _bytes_of(info.type)) is not None
    }


def most_bytes(node: Node, sizes: Mapping[str, int], found: Mapping[str, np.ndarray]) -> int | None:
    """The most that a node's results take; None while that is not known.

    Args:
        node: nodes that it reads are of `found`, or have a size.
        sizes: see `sizes_of_results`.
        found: what others gave.
    """
    wanted = [output.name for output in node.outputs if output.name]
    if all(name in sizes for name in wanted):
        return sum(sizes[name] for name in wanted)
    times = _MADE_OF_INPUTS.get(node.op)
    if times is None:
        return None
    total = _LITTLE
    for tensor in node.inputs:
        if query.is_omitted(tensor):
            continue
        if isinstance(tensor, Constant):
            total += tensor.nbytes
        elif tensor.name in sizes:
            total += sizes[tensor.name]
        elif tensor.name in found:
            total += _nbytes(found[tensor.name])
        else:
            return None
    return times * total


def _nbytes(value: np.ndarray) -> int:
    if value.dtype.kind != "O":
        return int(value.nbytes)
    return sum(
        each.nbytes if isinstance(each, np.ndarray) else len(str(each)) for each in value.flat
    )


def _tensors(found: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Without sequences and optionals, which no model stores."""
    return {
        name: value
        for name, value in found.items()
        if value.dtype.kind != "O" or all(isinstance(each, str) for each in value.flat)
    }


def _bytes_of(kind: onnx.TypeProto) -> int | None:
    if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.HasField("shape"):
        return None
    count = 1
    for axis in kind.tensor_type.shape.dim:
        if not axis.HasField("dim_value"):
            return None
        count *= axis.dim_value
    return count * elements.dtype_of(kind.tensor_type.elem_type).itemsize
