"""Stores weights as integers; computation stays float."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Variable
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.insert import stored_dequantized
from onnxcompress.qdq.table import is_table, quantize_table
from onnxcompress.quantization.granularity import PER_TENSOR, Granularity, PerChannel
from onnxcompress.quantization.qparams import symmetric_qparams


class WeightGranularity(Enum):
    """What shares a scale, by the names recipes use."""

    PER_TENSOR = "per-tensor"
    PER_CHANNEL = "per-channel"


@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(Pass):
    """MatMul(x, W)  ->  MatMul(x, DequantizeLinear(W_int8, scale)).

    For size: about a quarter of the bytes, at the speed of the float model or below it. Conv,
    ConvTranspose, Gemm, MatMul and the tables that Gather reads (those with one scale for each row).

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
        done: dict[tuple[Constant, Granularity], Variable] = {}
        for node in query.nodes(model, {*WEIGHTED_OPS, "Gather"}):
            index = 0 if node.op == "Gather" else WEIGHTED_OPS[node.op].weight
            weight = query.constant(node, index)
            options = self.at(node)
            if options is None:
                edit.skip(node, EXCLUDED)
            elif weight is None:
                edit.skip(node, "its weight is not stored as float32 in the model")
            elif weight.dtype != np.float32:
                edit.skip(node, f"its weight is {weight.dtype}, not float32")
            elif weight.size < options.min_elements:
                edit.skip(node, f"{weight.size} elements < min_elements={options.min_elements}")
            elif node.op == "Gather":
                if is_table(node, weight):
                    quantize_table(edit, node, weight)
                else:
                    edit.skip(node, "does not read rows of a matrix")
            else:
                key = weight, options._granularity_for(node, weight)
                if key not in done:  # a weight that several nodes read is stored once
                    values = weight.values
                    qparams = symmetric_qparams(values, key[1])
                    done[key] = stored_dequantized(edit, weight, values, qparams, node)
                edit.set_input(node, index, done[key], f"{weight.name} stored as int8")

    def _granularity_for(self, node: Node, weight: Constant) -> Granularity:
        if self.granularity is WeightGranularity.PER_TENSOR or len(weight.shape) < 2:
            return PER_TENSOR
        return PerChannel(output_channel_axis(node, len(weight.shape)))
