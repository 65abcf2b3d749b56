"""How many weights are zero, and what that is worth."""

from __future__ import annotations

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import STANDARD, Constant, Model, Tensor
from onnxcompress.ir.sparse import (
    LEAST_SPARSE_GAIN,
    SMALLEST_SPARSE,
    SparseArray,
    why_not_sparse,
)
from onnxcompress.qdq.unpack import BITMAP_NODE_BYTES, bitmap_of, takes_bitmap

WORTH_TELLING = 0.1
"""The share of zeros from which on a reader should know what they are worth."""


def zero_share(model: Model) -> float:
    """The share of zeros among weights: tensors of two axes or more that are stored.

    Integers count only where their zeros are not stored: rounding makes zeros of its own.
    """
    counted = [_count(tensor) for tensor in {t: None for n in query.nodes(model) for t in n.inputs}]
    size = sum(elements for elements, _ in counted)
    return sum(zeros for _, zeros in counted) / max(size, 1)


def zero_notes(model: Model) -> tuple[str, ...]:
    """What zeros in a model's weights are worth under onnxruntime, if there are many."""
    share = zero_share(model)
    if share < WORTH_TELLING:
        return ()
    worth = "save bytes (store-sparse), not time"
    if not _saves_bytes(model):
        worth = "save neither bytes, in tensors as these, nor time"
    return (
        f"{share:.0%} of the weights are zeros: those that lie anywhere {worth}, as onnxruntime "
        "multiplies by them like by other numbers; channels that strip-pruned cuts save both",
    )


def _saves_bytes(model: Model) -> bool:
    """Whether a weight is stored without its zeros, or store-sparse would make one smaller."""
    weights = {t: None for n in query.nodes(model) for t in n.inputs}
    return any(_is_bitmap_smaller(model, weight) for weight in weights)


def _is_bitmap_smaller(model: Model, weight: Tensor) -> bool:
    elements, zeros = _count(weight)
    if not zeros:
        return False
    if not isinstance(weight, Constant) or isinstance(weight.stored, SparseArray):
        return True
    if elements < SMALLEST_SPARSE or why_not_sparse(weight.shape, weight.dtype) is not None:
        return False
    others = any(node.domain not in STANDARD for node in query.consumers(weight))
    if others or model.is_output(weight) or not takes_bitmap(weight.dtype, max(model.opset, 13)):
        return False
    needed = elements // 8 + BITMAP_NODE_BYTES + (elements - zeros + 1) * weight.dtype.itemsize
    return needed <= (1 - LEAST_SPARSE_GAIN) * weight.nbytes


def _count(tensor: Tensor) -> tuple[int, int]:
    """Elements and zeros of a weight; (0, 0) for any other tensor."""
    if not isinstance(tensor, Constant):
        bitmap = bitmap_of(tensor)
        if bitmap is None:
            return 0, 0
        elements = int(np.prod(bitmap.shape))
        return elements, elements - bitmap.values.size + 1
    if isinstance(tensor.stored, SparseArray):
        return tensor.size, tensor.size - tensor.stored.count
    # numpy knows bfloat16 and the small floats, which ml_dtypes adds, as kind V.
    if len(tensor.shape) < 2 or tensor.dtype.kind not in "fV":
        return 0, 0
    return tensor.size, tensor.size - int(np.count_nonzero(tensor.values))
