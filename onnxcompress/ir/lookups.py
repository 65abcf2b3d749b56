"""Tables whose rows are looked up by ids that the caller of a model gives."""

from __future__ import annotations

from onnxcompress.ir import query
from onnxcompress.ir.model import Model, Node

_SAME_VALUES = frozenset(
    {
        "Cast",
        "Expand",
        "Flatten",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that hand on the values of their first input, or some of them."""


def why_not_given(model: Model, gather: Node) -> str | None:
    """Why the ids of a Gather are not those of an integer input; None if they are."""
    ids = gather.inputs[1]
    while (node := query.producer(ids)) is not None:
        if node.op == "Gather":
            return f"its ids are looked up themselves, by {node.name!r}"
        if node.op not in _SAME_VALUES:
            return f"its ids are computed by {node.op} {node.name!r}, not given"
        ids = node.inputs[0]
    if ids not in model.graph.inputs:
        return "its ids are stored, not given"
    if ids.dtype is None or ids.dtype.kind not in "iu":
        return f"its ids come from the input {ids.name!r}, which is not of integers"
    for other in query.consumers(gather.inputs[1]):
        rows = query.constant(other, 0)
        if other.op == "Gather" and rows is not None and rows.dtype.kind in "iu":
            return f"its ids also read integers, with {other.name!r}: prune before quantizing"
    return None
