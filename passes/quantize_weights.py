"""Stores weights as integers; computation stays float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import EXCLUDED, Context
from onnxcompress.qdq.candidates import RECURRENT_OPS, is_no_table
from onnxcompress.qdq.integer_weights import IntegerWeights
from onnxcompress.qdq.recurrent import store_weights, why_not_stored
from onnxcompress.qdq.table import quantize_table, why_no_table, why_not_divisible
from onnxcompress.qdq.ties import Ties, tables_last
from onnxcompress.qdq.weight_forms import WeightForm


@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(IntegerWeights):
    """MatMul(x, W)  ->  MatMul(x, DequantizeLinear(W_int8, scale)).

    For size: a sixteenth to a half of the bytes, at the speed of the float model or below it. Conv,
    ConvTranspose, Gemm, MatMul and the tables that Gather reads. Each weight goes to the nearest
    integer; needs no data. See `IntegerWeights` for the options.

    LSTM, GRU and RNN read Mul(Cast(W_int8), scale) instead, which onnxruntime computes when the
    session loads: 8 or 16 bits, a scale for each row, whatever the options; see `qdq.recurrent`.
    """

    name: ClassVar[str] = "quantize-weights"

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        outermost = set(model.graph.nodes)
        uses = self.uses(model, context)
        ties = Ties(model)
        for node in tables_last(query.nodes(model, {*WEIGHTED_OPS, "Gather", *RECURRENT_OPS})):
            weight = query.constant(node, 0 if node.op == "Gather" else 1)
            if node.op == "Gather" and is_no_table(weight):
                continue
            options = self.at(node)
            reason = EXCLUDED if options is None else options._unfit(node, weight)
            if reason is not None:
                edit.skip(node, reason)
                continue
            assert weight is not None and options is not None
            if node.op in RECURRENT_OPS:
                store_weights(edit, node, options.bits)
                continue
            if node.op == "Gather":
                product = ties.product(weight)
                alike = product is not None and self.at(product) == options
                if not (alike and ties.read_stored(edit, node, weight)):
                    grid = options.qparams_for(node, weight)
                    quantize_table(edit, node, weight, grid, options.bits)
                continue
            qparams = options.qparams_for(node, weight)
            share, use = node in outermost, uses.get(node)
            form = options.store(edit, node, weight, weight.values, qparams, share=share, use=use)
            at_load = form is WeightForm.AT_LOAD
            ties.note(edit, node, weight.values, qparams, at_load=at_load)

    def _unfit(self, node: Node, weight: Constant | None) -> str | None:
        """Why a candidate stays float; None if it need not."""
        if node.op in RECURRENT_OPS:
            return why_not_stored(node, self.min_elements)
        reason = self.why_not(node, weight)
        if reason is not None or node.op != "Gather":
            return reason
        assert weight is not None
        granularity = self.granularity_for(node, weight)
        return why_no_table(node, weight) or why_not_divisible(weight, granularity, self.bits)
