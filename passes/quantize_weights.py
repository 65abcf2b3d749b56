"""Stores weights as integers; computation stays float."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.insert import stored_dequantized
from onnxcompress.qdq.table import quantize_table, why_no_table
from onnxcompress.quantization.granularity import PER_TENSOR, Granularity, PerChannel
from onnxcompress.quantization.qparams import symmetric_qparams

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


class WeightGranularity(Enum):
    """What shares a scale, by the names recipes use."""

    PER_TENSOR = "per-tensor"
    PER_CHANNEL = "per-channel"


@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(Pass):
    """MatMul(x, W)  ->  MatMul(x, DequantizeLinear(W_int8, scale)).

    For size: about a quarter of the bytes, at the speed of the float model or below it. Conv,
    ConvTranspose, Gemm, MatMul and the tables that Gather reads (one scale for each row).
    Source: ONNX DequantizeLinear, opset 13 (per axis).

    Attributes:
        granularity: one scale for each output channel, or one for all.
        min_elements: smaller weights stay float; they are not worth a node.
    """

    name: ClassVar[str] = "quantize-weights"
    opset: ClassVar[int] = 13

    granularity: WeightGranularity = WeightGranularity.PER_CHANNEL
    min_elements: int = 1024

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        outermost = set(model.graph.nodes)
        for node in query.nodes(model, {*WEIGHTED_OPS, "Gather", *_RECURRENT}):
            index = 0 if node.op == "Gather" else 1
            weight = query.constant(node, index)
            if node.op == "Gather" and (weight is None or weight.dtype.kind in "iubO"):
                continue  # reads lengths, indices or activations, not a table
            options = self.at(node)
            reason = EXCLUDED if options is None else options._unfit(node, weight)
            if reason is not None:
                edit.skip(node, reason)
                continue
            assert weight is not None and options is not None
            if node.op == "Gather":
                quantize_table(edit, node, weight)
                continue
            values = weight.values
            qparams = symmetric_qparams(values, options._granularity_for(node, weight))
            share = node in outermost
            real = stored_dequantized(edit, weight, values, qparams, node, share=share)
            edit.set_input(node, index, real, f"{weight.name} stored as int8")

    def _unfit(self, node: Node, weight: Constant | None) -> str | None:
        """Why a candidate stays float; None if it need not."""
        if node.op in _RECURRENT:
            return "recurrent weights stay float: rounding them adds up over time steps"
        if weight is None:
            return "its weight is not stored as float32 in the model"
        if weight.dtype != np.float32:
            return f"its weight is {weight.dtype}, not float32"
        if weight.size < self.min_elements:
            return f"{weight.size} elements < min_elements={self.min_elements}"
        if node.op == "Gather":
            return why_no_table(node, weight)
        return None if np.isfinite(weight.values).all() else "its weight holds NaN or infinities"

    def _granularity_for(self, node: Node, weight: Constant) -> Granularity:
        if self.granularity is WeightGranularity.PER_TENSOR or len(weight.shape) < 2:
            return PER_TENSOR
        return PerChannel(output_channel_axis(node, len(weight.shape)))
