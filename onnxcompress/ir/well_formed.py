"""Nodes that no runtime takes, so that no pass has to think of them.

Only what the file itself says is looked at: how many inputs a node has, and whether what is stored
for it fits. Source: the schemas of the operators, as the installed onnx knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import onnx

from onnxcompress.errors import ModelError
from onnxcompress.ir.model import STANDARD, Constant, Node


def require_well_formed(node: Node, version: int) -> None:
    """Refuses a node that cannot be run.

    Args:
        node: of any domain; what is no standard operator is let pass.
        version: of the standard operators.

    Raises:
        ModelError: it has too few inputs, or what is stored for it does not fit; names the node.
    """
    if node.domain not in STANDARD:
        return
    fault = _too_few(node, version)
    if fault is None and node.op in _CHECKS:
        fault = _CHECKS[node.op](node)
    if fault is not None:
        raise ModelError(f"node {node.name!r} ({node.op}): {fault}")


def _too_few(node: Node, version: int) -> str | None:
    if onnx.defs.has(node.op, version, ""):
        least = onnx.defs.get_schema(node.op, version, "").min_input
    elif onnx.defs.has(node.op, ""):  # of an operator set that onnx does not know, or not yet
        least = onnx.defs.get_schema(node.op, "").min_input
    else:
        return None
    found = len(node.inputs)
    return None if found >= least else f"it has {found} inputs, and needs {least}"


def _stored(node: Node, index: int) -> Constant | None:
    tensor = node.inputs[index] if index < len(node.inputs) else None
    return tensor if isinstance(tensor, Constant) else None


def _ranks(first: int, last: int | None, *indices: int) -> Callable[[Node], str | None]:
    """Stored inputs have from so many to so many axes; None for any number."""

    def check(node: Node) -> str | None:
        for stored in filter(None, (_stored(node, index) for index in indices)):
            rank = len(stored.shape)
            if rank < first or (last is not None and rank > last):
                return f"{stored.name!r} of shape {list(stored.shape)} has {rank} axes"
        return None

    return check


def _convolution(node: Node) -> str | None:
    weight, groups = _stored(node, 1), node.int_attr("group", 1)
    if weight is None:
        return None
    if groups < 1 or not weight.shape or int(weight.shape[0]) % groups:
        return (
            f"its {groups} groups do not divide its weight {weight.name!r} of shape "
            f"{list(weight.shape)}"
        )
    return _ranks(3, None, 1)(node)


def _normalization(node: Node) -> str | None:
    stored = [each for each in (_stored(node, index) for index in range(1, 5)) if each is not None]
    if len({tuple(each.shape) for each in stored}) > 1:
        return f"its stored tensors are of {', '.join(str(list(each.shape)) for each in stored)}"
    return None


def _transpose(node: Node) -> str | None:
    stored, order = _stored(node, 0), node.ints_attr("perm")
    if stored is None or not order or sorted(order) == list(range(len(stored.shape))):
        return None
    return f"perm={list(order)} does not order the axes of {stored.name!r} {list(stored.shape)}"


_RECURRENT: Final = _ranks(3, 3, 1, 2)
_CHECKS: Final[Mapping[str, Callable[[Node], str | None]]] = {
    "BatchNormalization": _normalization,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "GRU": _RECURRENT,
    "Gemm": _ranks(2, 2, 0, 1),
    "LSTM": _RECURRENT,
    "MatMul": _ranks(1, None, 0, 1),
    "RNN": _RECURRENT,
    "Transpose": _transpose,
}
