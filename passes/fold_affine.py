"""Folds multiplications and additions of stored values into linear nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.linear import Linear, stored_operand
from onnxcompress.ir.model import Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context, Pass

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
    """

    name: ClassVar[str] = "fold-affine"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        for node in query.nodes(model, _FACTORS.keys()):
            index = stored_operand(node)
            if index is None or (node.op in ("Div", "Sub") and index == 0):
                continue
            if _is_bias_of_matmul(node, index):
                continue
            if self.at(node) is None:
                edit.skip(node, EXCLUDED)
                continue
            reason = _fold(model, edit, node, index)
            if reason:
                edit.skip(node, reason)


def _fold(model: Model, edit: Editor, node: Node, index: int) -> str | None:
    """Folds one node; or says why not."""
    stored = query.constant(node, index)
    assert stored is not None
    if stored.dtype.kind != "f":
        return f"its operand is {stored.dtype}"
    value = stored.values.astype(np.float64)
    scale, shift = _FACTORS[node.op](value)
    if not all(np.isfinite(part).all() for part in (scale, shift) if part is not None):
        return "its operand is not finite"
    start = node.inputs[1 - index]
    if value.size == 1 and shift is None:
        if value.ndim > 1:
            return "its operand may add an axis"
        linear = _source_of_factor(model, start)
    else:
        linear = Linear.feeding(model, start)
        if isinstance(linear, Linear) and not _is_per_channel(value, linear):
            return f"its operand {list(value.shape)} is not one value a channel"
    if isinstance(linear, str):
        return linear
    if shift is not None:
        shift = shift.reshape(-1)
    refusal = linear.scale_and_shift(edit, scale.reshape(-1), shift)
    if refusal is None:
        edit.redirect(node.outputs[0], start)
        edit.remove(node)
    return refusal


def _source_of_factor(model: Model, tensor: Tensor) -> Linear | str:
    """The linear node in which a scalar factor on `tensor` can end."""
    while True:
        linear = Linear.feeding(model, tensor)
        if isinstance(linear, Linear):
            return linear
        node = query.producer(tensor)
        if node is None or query.only_consumer(model, tensor) is None:
            return linear
        product = node.op == "MatMul" and query.constant(node, 1) is None
        if node.op not in _TRANSPARENT and not product:
            return linear
        tensor = node.inputs[0]


def _is_per_channel(value: np.ndarray, linear: Linear) -> bool:
    """Whether broadcasting lines `value` up with the output channels."""
    if value.size == 1:
        return value.ndim <= 1
    spatial = len(linear.weight.shape) - 2 if linear.node.op.startswith("Conv") else 0
    wanted = (linear.channels, *[1] * spatial)
    return value.shape in (wanted, (1, *wanted))


def _is_bias_of_matmul(node: Node, index: int) -> bool:
    """An Add of a vector to a MatMul is how a MatMul has a bias: nothing to fold."""
    source = query.producer(node.inputs[1 - index])
    return node.op in ("Add", "Sub") and source is not None and source.op == "MatMul"
