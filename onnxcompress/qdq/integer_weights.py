"""Weights stored as integers, with what gives them back as float32: options and writing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.pass_base import Context, Pass, is_weight
from onnxcompress.qdq.candidates import why_not_finite, why_not_float32
from onnxcompress.qdq.insert import stored_dequantized
from onnxcompress.qdq.nbits import (
    NBITS_WIDTHS,
    matmul_nbits,
    why_fused_wrongly,
    why_no_nbits,
)
from onnxcompress.qdq.unpack import OPSET as AT_LOAD_OPSET
from onnxcompress.qdq.unpack import dequantized_at_load
from onnxcompress.qdq.weight_forms import (
    WeightForm,
    WeightUse,
    Writing,
    fastest_writing,
    uses_of_weights,
)
from onnxcompress.quantization.fitting import fitted_qparams
from onnxcompress.quantization.granularity import PER_TENSOR, Granularity, PerBlock, PerChannel
from onnxcompress.quantization.qparams import QParams, asymmetric_qparams, symmetric_qparams
from onnxcompress.releases import knows_dequantized, knows_nbits

_OPSETS = {2: 25, 4: 21, 8: 13, 16: 21}  # where DequantizeLinear learned the type
_BLOCK_OPSET = 21
_TABLE_OPSET = 7
_ALWAYS_DEQUANTIZED = (WeightForm.DEQUANTIZE_LINEAR, WeightForm.MATMUL_NBITS)


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


class WeightScales(Enum):
    """How scales and zero points are chosen, by the names recipes use."""

    RANGE = "range"
    FITTED = "fitted"


@dataclass(frozen=True, kw_only=True)
class IntegerWeights(Pass):
    """Base of a pass that stores weights as integers and computes in float32.

    Source: ONNX DequantizeLinear, opset 13 (8 bits), 21 (4 and 16 bits, blocks), 25 (2 bits).

    Attributes:
        bits: width of the stored integers.
        symmetric: signed integers around zero; else unsigned ones with zero points, which fit the
            range of the weight.
        granularity: one scale for each output channel, for all, or for each `block_size` weights
            along the inputs of a channel (a channel with fewer inputs has one). The rows of a table
            have one each, or one for each block.
        block_size: weights that share a scale where it is per block.
        scales: whether they cover the range of the weight or are fitted to lose least, which takes
            a search; see `quantization.fitting`.
        form: how weights are written. dequantize-linear is the standard's, which any runtime reads;
            matmul-nbits is for MatMul alone, and wants 4 or 8 bits and scales per block; at-load is
            unpacked by standard operators when the session loads, and runs as float; auto takes for
            each node the one that onnxruntime runs the fastest, see `qdq.weight_forms`. Where the
            result must load on an onnxruntime that does not know a form, it is at-load.
        min_elements: smaller weights stay float; they are not worth a node.
    """

    packs: ClassVar[bool] = True

    bits: WeightBits = WeightBits.EIGHT
    symmetric: bool = True
    granularity: WeightGranularity = WeightGranularity.PER_CHANNEL
    block_size: int = 32
    scales: WeightScales = WeightScales.RANGE
    form: WeightForm = WeightForm.DEQUANTIZE_LINEAR
    min_elements: int = 1024

    def required_opset(self) -> int:
        """See `Pass.required_opset`."""
        if self._form is WeightForm.AT_LOAD:
            return AT_LOAD_OPSET
        in_blocks = self.granularity is WeightGranularity.PER_BLOCK
        return max(_OPSETS[self.bits], _BLOCK_OPSET if in_blocks else 1)

    def packs_halves(self) -> bool:
        """See `Pass.packs_halves`."""
        return self.bits < WeightBits.SIXTEEN

    def opset_for(self, model: Model, context: Context) -> int:
        """See `Pass.opset_for`; what the forms need that are going to be written."""
        uses = self.uses(model, context)
        needed = _TABLE_OPSET
        for node in query.nodes(model, WEIGHTED_OPS):
            weight, options = query.constant(node, 1), self.at(node)
            if options is not None and weight is not None and is_weight(weight):
                needed = max(needed, options._opset_of(node, weight, uses.get(node)))
        return needed

    def _opset_of(self, node: Node, weight: Constant, use: WeightUse | None) -> int:
        granularity = self.granularity_for(node, weight)
        match self._writing(node, weight, granularity, use or WeightUse()).form:
            case WeightForm.AT_LOAD:
                return AT_LOAD_OPSET
            case WeightForm.MATMUL_NBITS:
                return 1
        in_blocks = isinstance(granularity, PerBlock)
        return max(_OPSETS[self.bits], _BLOCK_OPSET if in_blocks else 1)

    def why_not(self, node: Node, weight: Constant | None) -> str | None:
        """Why a weight stays float, whatever reads it; None if it need not.

        Args:
            node: Conv, ConvTranspose, Gemm, MatMul or Gather.
            weight: its weight or table; None if that is not stored.
        """
        if weight is None:
            return "its weight is not stored as float32 in the model"
        reason = why_not_float32(weight, self.min_elements)
        if reason is not None:
            return reason
        if self.block_size < 1:
            return f"block_size={self.block_size} holds no weight"
        if self._becomes_nbits(node):
            wanted = WeightGranularity.PER_BLOCK
            if self.granularity is not wanted:
                return f"form={self.form.value} wants granularity={wanted.value}"
            reason = why_no_nbits(weight, self.bits, self.block_size)
        elif node.op != "Gather" and self._form in _ALWAYS_DEQUANTIZED:
            reason = why_fused_wrongly(node, weight, self.bits)
        return why_not_finite(weight) if reason is None else reason

    def granularity_for(self, node: Node, weight: Constant) -> Granularity:
        """What shares a scale in the weight of a node."""
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

    def qparams_for(
        self, node: Node, weight: Constant, importance: np.ndarray | None = None
    ) -> QParams:
        """Scales and zero points for a weight.

        Args:
            node: reads the weight.
            weight: finite float32.
            importance: of each weight's error, see `fitted_qparams`; fitted scales heed it.
        """
        values, granularity = weight.values, self.granularity_for(node, weight)
        if self.scales is WeightScales.FITTED:
            return fitted_qparams(
                values, granularity, self.bits, symmetric=self.symmetric, importance=importance
            )
        make = symmetric_qparams if self.symmetric else asymmetric_qparams
        return make(values, granularity, self.bits)

    def uses(self, model: Model, context: Context) -> Mapping[Node, WeightUse]:
        """What `store` wants to know of each weighted node, before any of them is changed."""
        options = [self, *(override.options for override in self.overrides)]
        if any(isinstance(o, IntegerWeights) and o.form is WeightForm.AUTO for o in options):
            return uses_of_weights(model, context)
        return {}

    def store(
        self,
        edit: Editor,
        node: Node,
        weight: Constant,
        values: np.ndarray,
        qparams: QParams,
        *,
        share: bool,
        use: WeightUse | None = None,
    ) -> WeightForm:
        """Makes a node read its weight as integers; returns how they are written.

        Args:
            edit: records the change.
            node: Conv, ConvTranspose, Gemm or MatMul.
            weight: its weight; lends its name.
            values: float values; integers if they are quantized already.
            qparams: how.
            share: whether others may read the same stored tensors, see `stored_dequantized`.
            use: how the node uses the weight, by which AUTO chooses.
        """
        writing = self._writing(node, weight, qparams.granularity, use or WeightUse())
        if writing.form is WeightForm.MATMUL_NBITS:
            bits, rounds = self.bits, writing.rounds_activations
            matmul_nbits(edit, node, weight, values, qparams, bits, rounds_activations=rounds)
            return writing.form
        if writing.form is WeightForm.AT_LOAD:
            real = dequantized_at_load(edit, weight, values, qparams, self.bits, node)
        else:
            if self.form is WeightForm.AUTO and node.int_attr("transB", 0):
                values, qparams = np.ascontiguousarray(values.T), qparams.transposed()
                edit.set_attribute(node, "transB", 0)  # onnxruntime fuses no other Gemm
            real = stored_dequantized(edit, weight, values, qparams, node, share=share)
        edit.set_input(node, 1, real, f"{weight.name} stored as {qparams.zero_point.dtype}")
        return writing.form

    def _writing(
        self, node: Node, weight: Constant, granularity: Granularity, use: WeightUse
    ) -> Writing:
        form, release = self._form, self.release
        if form is WeightForm.AUTO:
            return fastest_writing(node, weight, granularity, self.bits, use, release)
        if form is WeightForm.MATMUL_NBITS and node.op != "MatMul":
            form = WeightForm.DEQUANTIZE_LINEAR
        if form is WeightForm.DEQUANTIZE_LINEAR and release is not None:
            in_blocks = isinstance(granularity, PerBlock)
            if not knows_dequantized(release, self.bits, in_blocks=in_blocks):
                form = WeightForm.AT_LOAD
        return Writing(form=form)

    @property
    def _form(self) -> WeightForm:
        """The form, but at-load where the release that is asked for knows it for no weight."""
        known = True
        if self.release is not None and self.form is WeightForm.DEQUANTIZE_LINEAR:
            known = knows_dequantized(self.release, self.bits, in_blocks=False)
        elif self.release is not None and self.form is WeightForm.MATMUL_NBITS:
            known = self.bits not in NBITS_WIDTHS or knows_nbits(self.release, self.bits)
        return self.form if known else WeightForm.AT_LOAD

    def _becomes_nbits(self, node: Node) -> bool:
        return self._form is WeightForm.MATMUL_NBITS and node.op == "MatMul"
