"""What operators meant in earlier operator sets, where that is not what they mean today.

The rules of `channels.table` know the meaning from `FIRST` on; where a change behind that matters
to them they ask `Space.opset`. A test holds this to ONNX's own history of every operator.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnxcompress.ir.model import Node

FIRST: Mapping[str, int] = {
    # Until then an attribute said along which axis the second operand lies.
    **dict.fromkeys(["Add", "And", "Div", "Equal", "Greater", "Less", "Mul"], 7),
    **dict.fromkeys(["Or", "PRelu", "Pow", "Sub", "Xor"], 7),
    "BatchNormalization": 7,  # trained or not by `is_test`
    "Concat": 4,  # along axis 1 by default
    "Dropout": 7,  # random unless `is_test`
    **dict.fromkeys(["GRU", "LSTM", "RNN"], 7),  # outputs by `output_sequence`
    "Gemm": 7,  # as Add
    "Pad": 2,  # `paddings`
    "Reshape": 5,  # the shape is an attribute
    "Split": 2,  # sizes may be an input
    "Tile": 6,  # one axis
    "Upsample": 7,  # `height_scale`, `width_scale`
}
"""The first version of an operator that is followed; of others it is version 1."""

LATEST = 28
"""The last operator set that the rules were held against."""

_FLATTENING = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
_ONE_AXIS = frozenset({*_FLATTENING, "LpNormalization", "CumSum"})


def is_followed(node: Node, opset: int) -> bool:
    """Whether a standard operator means in an operator set what the rules take it to mean."""
    try:
        version = onnx.defs.get_schema(node.op, opset).since_version
    except onnx.defs.SchemaError:  # onnxruntime has it under the standard domain's name
        return True
    return FIRST.get(node.op, 1) <= version <= LATEST


def normalized_axes(node: Node, axis: int | None, rank: int, opset: int) -> range:
    """The axes that a Softmax, a LayerNormalization or one of their kin takes statistics over.

    Before opset 13 Softmax and its kin made a matrix of what they read: `axis`, by default 1, was
    the first of its columns.

    Args:
        node: the operator.
        axis: where it is told by an input; else the attribute says.
        rank: axes of what it reads.
        opset: that it is written in.
    """
    flattens = node.op in _FLATTENING and opset < 13
    first = (node.int_attr("axis", 1 if flattens else -1) if axis is None else axis) % rank
    return range(first, first + 1 if node.op in _ONE_AXIS and not flattens else rank)
