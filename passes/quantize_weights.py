"""Stores weights as integers; computation stays float."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.insert import stored_dequantized
from onnxcompress.qdq.nbits import matmul_nbits, why_fused_wrongly, why_no_nbits
from onnxcompress.qdq.table import quantize_table, why_no_table, why_not_divisible
from onnxcompress.quantization.granularity import PER_TENSOR, Granularity, PerBlock, PerChannel
from onnxcompress.quantization.qparams import asymmetric_qparams, symmetric_qparams

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_OPSETS = {2: 25, 4: 21, 8: 13, 16: 21}  # where DequantizeLinear learned the type
_BLOCK_OPSET = 21


class WeightBits(IntEnum):
    """How wide the stored integers are."""

    TWO = 2
    FOUR = 4
    EIGHT = 8
    SIXTEEN = 16


class WeightGranularity(Enum):
    """What shares a scale, by the names recipes use."""

    PER_TENSOR = "per-tensor"
    PER_CHANNEL = "per-channel"
    PER_BLOCK = "per-block"


class WeightForm(Enum):
    """How a product with a stored weight is written, by the names recipes use."""

    DEQUANTIZE_LINEAR = "dequantize-linear"
    MATMUL_NBITS = "matmul-nbits"


@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(Pass):
    """MatMul(x, W)  ->  MatMul(x, DequantizeLinear(W_int8, scale)).

    For size: a sixteenth to a half of the bytes, at the speed of the float model or below it. Conv,
    ConvTranspose, Gemm, MatMul and the tables that Gather reads. Source: ONNX DequantizeLinear,
    opset 13 (8 bits), 21 (4 and 16 bits, blocks), 25 (2 bits).

    Attributes:
        bits: width of the stored integers.
        symmetric: signed integers around zero; else unsigned ones with zero points, which fit the
            range of the weight.
        granularity: one scale for each output channel, for all, or for each `block_size` weights
            along the inputs of a channel (a channel with fewer inputs has one). The rows of a table
            have one each, or one for each block.
        block_size: weights that share a scale where it is per block.
        form: how MatMul is written; matmul-nbits wants 4 or 8 bits and scales per block.
        min_elements: smaller weights stay float; they are not worth a node.
    """

    name: ClassVar[str] = "quantize-weights"

    bits: WeightBits = WeightBits.EIGHT
    symmetric: bool = True
    granularity: WeightGranularity = WeightGranularity.PER_CHANNEL
    block_size: int = 32
    form: WeightForm = WeightForm.DEQUANTIZE_LINEAR
    min_elements: int = 1024

    def required_opset(self) -> int:
        """See `Pass.required_opset`."""
        in_blocks = self.granularity is WeightGranularity.PER_BLOCK
        return max(_OPSETS[self.bits], _BLOCK_OPSET if in_blocks else 1)

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        outermost = set(model.graph.nodes)
        for node in query.nodes(model, {*WEIGHTED_OPS, "Gather", *_RECURRENT}):
            weight = query.constant(node, 0 if node.op == "Gather" else 1)
            if node.op == "Gather" and (weight is None or weight.dtype.kind in "iubO"):
                continue  # reads lengths, indices or activations, not a table
            options = self.at(node)
            reason = EXCLUDED if options is None else options._unfit(node, weight)
            if reason is not None:
                edit.skip(node, reason)
                continue
            assert weight is not None and options is not None
            options._store(edit, node, weight, share=node in outermost)

    def _store(self, edit: Editor, node: Node, weight: Constant, *, share: bool) -> None:
        make = symmetric_qparams if self.symmetric else asymmetric_qparams
        values = weight.values
        qparams = make(values, self._granularity_for(node, weight), self.bits)
        if node.op == "Gather":
            quantize_table(edit, node, weight, qparams, self.bits)
        elif self._becomes_nbits(node):
            matmul_nbits(edit, node, weight, qparams, self.bits)
        else:
            real = stored_dequantized(edit, weight, values, qparams, node, share=share)
            edit.set_input(node, 1, real, f"{weight.name} stored as {qparams.zero_point.dtype}")

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
        if self.block_size < 1:
            return f"block_size={self.block_size} holds no weight"
        if node.op == "Gather":
            return why_no_table(node, weight) or why_not_divisible(
                weight, self._granularity_for(node, weight), self.bits
            )
        if self._becomes_nbits(node):
            wanted = WeightGranularity.PER_BLOCK
            if self.granularity is not wanted:
                return f"form={self.form.value} wants granularity={wanted.value}"
            reason = why_no_nbits(weight, self.bits, self.block_size)
        else:
            reason = why_fused_wrongly(node, weight, self.bits)
        if reason is not None:
            return reason
        return None if np.isfinite(weight.values).all() else "its weight holds NaN or infinities"

    def _becomes_nbits(self, node: Node) -> bool:
        return self.form is WeightForm.MATMUL_NBITS and node.op == "MatMul"

    def _granularity_for(self, node: Node, weight: Constant) -> Granularity:
        in_blocks = self.granularity is WeightGranularity.PER_BLOCK
        if node.op == "Gather":
            return PerBlock(1, self.block_size) if in_blocks else PerChannel(0)
        if self.granularity is WeightGranularity.PER_TENSOR or len(weight.shape) < 2:
            return PER_TENSOR
        channel = output_channel_axis(node, len(weight.shape))
        inputs = channel - 1 if channel else 1
        if in_blocks and (self._becomes_nbits(node) or weight.shape[inputs] >= self.block_size):
            return PerBlock(inputs, self.block_size)
        return PerChannel(channel)
