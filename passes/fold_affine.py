"""Folds multiplications and additions of stored values into linear nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.linear import Linear, stored_operand, why_too_large
from onnxcompress.ir.model import STANDARD, Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.tensor_types import TensorTypes

_Factors = tuple[np.ndarray, np.ndarray | None]

_ONE = np.ones((), np.float64)

_FACTORS: dict[str, Callable[[np.ndarray], _Factors]] = {
    "Mul": lambda value: (value, None),
    "Div": lambda value: (1 / value, None),
    "Add": lambda value: (_ONE, value),
    "Sub": lambda value: (_ONE, -value),
}

_TRANSPARENT = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators through which a scalar factor passes unchanged."""


@dataclass(frozen=True, kw_only=True)
class FoldAffine(Pass):
    """Mul(Conv(x, W, b), s)  ->  Conv(x, W * s, b * s); Add, Sub and Div likewise.

    A scalar factor travels back through Reshape, Transpose and products of two activations to the
    linear node that can take it: the 1 / sqrt(d) of attention ends in the query's weight.

    Attributes:
        max_growth: bytes that folding may add to the file in all, where other nodes read a weight
            that is not to change for them.
    """

    name: ClassVar[str] = "fold-affine"
    exact: ClassVar[bool] = True

    max_growth: int = 2 << 10

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        candidates = query.nodes(model, _FACTORS.keys())
        types = TensorTypes(model, context) if candidates else None
        left = self.max_growth
        for node in candidates:
            index = stored_operand(node)
            if index is None or (node.op in ("Div", "Sub") and index == 0):
                continue
            if _is_bias_of_matmul(node, index):
                continue
            if self.at(node) is None:
                edit.skip(node, EXCLUDED)
                continue
            assert types is not None
            done = _fold(model, edit, node, index, types, left)
            if isinstance(done, str):
                edit.skip(node, done)
            else:
                left -= done


def _fold(
    model: Model, edit: Editor, node: Node, index: int, types: TensorTypes, left: int
) -> int | str:
    """Folds one node and returns the bytes that the file gains; or says why not."""
    stored = query.constant(node, index)
    assert stored is not None
    if stored.dtype.kind != "f":
        return f"its operand is {stored.dtype}"
    value = stored.values.astype(np.float64)
    with np.errstate(divide="ignore"):
        scale, shift = _FACTORS[node.op](value)
    if not all(np.isfinite(part).all() for part in (scale, shift) if part is not None):
        return "its operand is not finite, or divides by zero"
    start = node.inputs[1 - index]
    linear = Linear.feeding(model, start)
    rank = types.rank(start)
    if isinstance(linear, Linear):
        rank = max(rank or 0, _least_rank(linear))
        if not _is_per_channel(value, linear):
            return f"its operand {list(value.shape)} is not one value a channel"
    elif value.size == 1 and shift is None:
        linear = _source_of_factor(model, start)
    if isinstance(linear, str):
        return linear
    if value.ndim > (rank or 0):
        return f"its operand {list(value.shape)} may add an axis"
    growth = 0 if node.op in ("Add", "Sub") else linear.growth(model, node)
    refusal = why_too_large(linear, growth, left) or linear.scale_and_shift(edit, scale, shift)
    if refusal is not None:
        return refusal
    edit.redirect(node.outputs[0], start)
    edit.remove(node)
    return growth


def _source_of_factor(model: Model, tensor: Tensor) -> Linear | str:
    """The linear node in which a scalar factor on `tensor` can end."""
    while True:
        linear = Linear.feeding(model, tensor)
        if isinstance(linear, Linear):
            return linear
        node = query.producer(tensor)
        if node is None or node.domain not in STANDARD:
            return linear
        if query.only_consumer(model, tensor) is None:
            return linear
        if node.op == "MatMul" and query.constant(node, 1) is None:
            left = _source_of_factor(model, node.inputs[0])
            return _source_of_factor(model, node.inputs[1]) if isinstance(left, str) else left
        if node.op not in _TRANSPARENT:
            return linear
        tensor = node.inputs[0]


def _least_rank(linear: Linear) -> int:
    """The fewest axes that a linear node's output can have."""
    return {"MatMul": 1, "Gemm": 2}.get(linear.node.op, len(linear.weight.shape))


def _is_per_channel(value: np.ndarray, linear: Linear) -> bool:
    """Whether broadcasting lines `value` up with the output channels."""
    spatial = len(linear.weight.shape) - 2 if linear.node.op.startswith("Conv") else 0
    wanted = (linear.channels, *[1] * spatial)
    return value.size == 1 or value.shape in (wanted, (1, *wanted))


def _is_bias_of_matmul(node: Node, index: int) -> bool:
    """An Add of a vector to a MatMul is how a MatMul has a bias: nothing to fold."""
    bias = query.constant(node, index)
    assert bias is not None
    is_vector = bias.size == 1 or bias.size == bias.shape[-1]
    added = node.op in ("Add", "Sub") and is_vector
    return added and query.producer_of(node.inputs[1 - index], "MatMul") is not None
