"""Models whose weights are floats other than float32."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx

from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Tensor
from onnxcompress.ir.views import VIEWS, WEIGHTS

OTHER_FLOATS: Mapping[np.dtype, int] = {
    np.dtype(np.float16): onnx.TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): onnx.TensorProto.BFLOAT16,
    np.dtype(np.float64): onnx.TensorProto.DOUBLE,
}
"""Floats that weights may be stored and computed in, with ONNX's number of each."""


def floats_of_weights(model: Model) -> frozenset[np.dtype]:
    """Those of `OTHER_FLOATS` in which nodes read their weights."""
    found: set[np.dtype] = set()
    for node in query.nodes(model, WEIGHTS):
        for index in WEIGHTS[node.op]:
            if index < len(node.inputs):
                dtype = _dtype(node.inputs[index])
                if dtype is not None and dtype in OTHER_FLOATS:
                    found.add(dtype)
    return frozenset(found)


def _dtype(tensor: Tensor) -> np.dtype | None:
    """The type in which a weight is read: of what is stored, or of what a view makes of it."""
    if isinstance(tensor, Constant):
        return tensor.dtype
    node = query.producer(tensor)
    if node is None or node.op not in VIEWS:
        return None
    if node.op == "Cast":
        to = node.int_attr("to", 0)
        return next((dtype for dtype, code in OTHER_FLOATS.items() if code == to), None)
    return _dtype(node.inputs[0]) if node.inputs else None
