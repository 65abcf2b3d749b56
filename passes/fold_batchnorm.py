"""Folds BatchNormalization into the node that feeds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.linear import Linear, why_too_large
from onnxcompress.ir.model import Model, Node
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.tensor_types import TensorTypes

_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class FoldBatchNorm(Pass):
    """BatchNormalization(Conv(x, W, b))  ->  Conv(x, W * s, (b - mean) * s + beta).

    With s = gamma / sqrt(variance + epsilon), in float64. Conv, ConvTranspose, Gemm and MatMul take
    it; a MatMul keeps its shift as an Add. Source: ONNX BatchNormalization, opset 7-15, inference
    mode.

    Attributes:
        max_growth: bytes that folding may add to the file in all, where other nodes read a weight
            that is not to change for them.
    """

    name: ClassVar[str] = "fold-batchnorm"
    exact: ClassVar[bool] = True

    max_growth: int = 2 << 10

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        norms = query.nodes(model, {"BatchNormalization"})
        types = TensorTypes(model, context) if norms else None
        left = self.max_growth
        ranks = {norm: types.rank(norm.inputs[0]) for norm in norms if types}
        for norm in norms:
            if self.at(norm) is None:
                edit.skip(norm, EXCLUDED)
                continue
            factors = _factors(norm)
            if isinstance(factors, str):
                edit.skip(norm, factors)
                continue
            linear = Linear.feeding(model, norm.inputs[0])
            if isinstance(linear, str):
                edit.skip(norm, linear)
                continue
            if linear.node.op == "MatMul" and ranks[norm] != 2:
                edit.skip(norm, "normalizes axis 1, which is not known to be the MatMul's last")
                continue
            growth = linear.growth(model, norm)
            refusal = why_too_large(linear, growth, left)
            refusal = refusal or linear.scale_and_shift(edit, *factors)
            if refusal:
                edit.skip(norm, refusal)
            else:
                edit.bypass(norm)
                left -= growth


def _factors(norm: Node) -> tuple[np.ndarray, np.ndarray] | str:
    """The (scale, shift) that a normalization applies to each channel, float64; or why not."""
    if not norm.int_attr("spatial", 1):
        return "normalizes each position by itself (spatial=0)"
    if norm.int_attr("training_mode", 0) or sum(bool(out.name) for out in norm.outputs) > 1:
        return "normalizes by the batch's own statistics"
    stored = [query.constant(norm, index) for index in range(1, 5)]
    if any(constant is None for constant in stored):
        return "its statistics are not stored"
    gamma, beta, mean, variance = (c.values.astype(np.float64) for c in stored if c is not None)
    scale = gamma / np.sqrt(variance + norm.float_attr("epsilon", _EPSILON))
    return scale, beta - mean * scale
