"""int8 matrix products whose activations are quantized as they come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Graph, Model, Node, Tensor, Variable
from onnxcompress.ir.ops import output_channel_axis
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.candidates import (
    RECURRENT_OPS,
    is_no_table,
    why_not_finite,
    why_not_float32,
)
from onnxcompress.qdq.insert import FLOAT
from onnxcompress.qdq.recurrent import (
    integer_lstm,
    store_weights,
    why_no_integer_lstm,
    why_not_stored,
)
from onnxcompress.qdq.table import quantize_table, why_no_table
from onnxcompress.qdq.ties import Ties, tables_last
from onnxcompress.qdq.weight_grid import weight_grid
from onnxcompress.quantization.granularity import PerChannel
from onnxcompress.quantization.qparams import QParams, quantize
from onnxcompress.target import INT8_TRAITS

_NO_FAST_KERNEL = {
    "Conv": "onnxruntime's ConvInteger is several times slower than its float Conv",
    "ConvTranspose": "onnxruntime has no integer ConvTranspose",
}
_CANDIDATES = frozenset({"MatMul", "Gemm", "Gather", *RECURRENT_OPS, *_NO_FAST_KERNEL})

_Levels = tuple[Variable, Variable, Variable]
"""What DynamicQuantizeLinear gives: uint8 levels, float32 scale, uint8 zero point."""


@dataclass(frozen=True, kw_only=True)
class QuantizeDynamic(Pass):
    """MatMul(x, W)  ->  Mul(Cast(MatMulInteger(DynamicQuantizeLinear(x), W_int8)), scales).

    For transformers and other models of large matrix products; needs no data. Gemm becomes the same
    and an Add; embedding tables become int8 rows. onnxruntime fuses each product to
    DynamicQuantizeMatMul. An LSTM whose input is bounded becomes DynamicQuantizeLSTM; other
    recurrent nodes go on computing in float, with weights stored as in quantize-weights.

    Source: ONNX DynamicQuantizeLinear (opset 11), MatMulInteger (opset 10); see `qdq.recurrent`.

    Attributes:
        embeddings: also store the float tables that Gather reads as int8, one scale for each row.
        min_elements: smaller weights stay float.
    """

    name: ClassVar[str] = "quantize-dynamic"
    packs: ClassVar[bool] = True
    opset: ClassVar[int] = 13

    embeddings: bool = True
    min_elements: int = 4096

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        traits = INT8_TRAITS[context.target]
        quantized: dict[tuple[Graph, Tensor], _Levels] = {}
        ties = Ties(model)
        graph_of = {node: graph for graph, node in model.nodes()}
        for node in tables_last(graph_of):
            graph = graph_of[node]
            if node.domain not in STANDARD or node.op not in _CANDIDATES:
                continue
            weight = query.constant(node, 0 if node.op == "Gather" else 1)
            if node.op == "Gather" and is_no_table(weight):
                continue
            options = self.at(node)
            reason = EXCLUDED if options is None else options._unfit(node, weight)
            if reason is not None:
                edit.skip(node, reason)
                continue
            assert weight is not None
            if node.op == "Gather":
                if not ties.read_stored(edit, node, weight):
                    quantize_table(edit, node, weight)
                continue
            if node.op in RECURRENT_OPS:
                slow = why_no_integer_lstm(node)
                if slow is None:
                    integer_lstm(edit, node, traits)
                else:
                    edit.skip(node, f"{slow}; only its weights are stored as integers")
                    store_weights(edit, node)
                continue
            source = node.inputs[0]
            # A body sees what the main graph around it has quantized, but not other bodies.
            levels = quantized.get((model.graph, source)) or quantized.get((graph, source))
            if levels is None:
                levels = quantized[graph, source] = _quantize_input(edit, source, node)
            granularity = PerChannel(output_channel_axis(node, 2))
            grid = weight_grid(node, weight.values, granularity, traits)
            ties.note(edit, node, weight.values, grid)
            _replace_product(edit, node, weight, levels, grid)

    def _unfit(self, node: Node, weight: Constant | None) -> str | None:
        """Why a candidate stays float; None if it need not."""
        if node.op in _NO_FAST_KERNEL:
            return _NO_FAST_KERNEL[node.op]
        if node.op in RECURRENT_OPS:
            return why_not_stored(node, self.min_elements)
        if weight is None:
            return "its second operand is not stored: it multiplies by an activation"
        reason = why_not_float32(weight, self.min_elements)
        if reason is not None:
            return reason
        if node.op == "Gather":
            return why_no_table(node, weight) if self.embeddings else "embeddings=false"
        if len(weight.shape) != 2:
            return f"its weight {list(weight.shape)} is not one matrix"
        if node.op == "Gemm" and (
            node.int_attr("transA", 0)
            or node.float_attr("alpha", 1.0) != 1.0
            or node.float_attr("beta", 1.0) != 1.0
        ):
            return "scales or transposes its input (alpha, beta, transA)"
        return why_not_finite(weight)


def _quantize_input(edit: Editor, source: Tensor, near: Node) -> _Levels:
    names = [f"{source.name}_{part}" for part in ("levels", "scale", "zero_point")]
    levels, scale, zero_point = edit.add_many(
        "DynamicQuantizeLinear", [source], near=near, bases=names
    )
    levels.dtype, scale.dtype, zero_point.dtype = np.dtype("u1"), FLOAT, np.dtype("u1")
    levels.shape, scale.shape, zero_point.shape = source.shape, (), ()
    return levels, scale, zero_point


def _replace_product(
    edit: Editor,
    node: Node,
    weight: Constant,
    source: _Levels,
    grid: QParams,
) -> None:
    levels, scale, zero_point = source
    values = weight.values.T if node.int_attr("transB", 0) else weight.values
    qparams = replace(grid, granularity=PerChannel(1))  # of the weight as MatMulInteger has it
    output = node.outputs[0]
    product = edit.add(
        "MatMulInteger",
        [
            levels,
            edit.shared(f"{weight.name}_quantized", quantize(values, qparams)),
            zero_point,
            edit.shared(f"{weight.name}_zero_point", np.zeros((), np.int8)),
        ],
        near=node,
        base=f"{output.name}_integer",
        dtype=np.dtype(np.int32),
    )
    real = edit.add(
        "Cast", [product], near=node, base=f"{output.name}_unscaled", attrs={"to": 1}, dtype=FLOAT
    )
    weight_scale = edit.shared(f"{weight.name}_scale", qparams.scale)
    scales = edit.add(
        "Mul", [scale, weight_scale], near=node, base=f"{output.name}_scale", dtype=FLOAT
    )
    result = edit.add(
        "Mul", [real, scales], near=node, base=f"{output.name}_dequantized", dtype=FLOAT
    )
    if query.has_input(node, 2):
        bias = node.inputs[2]
        result = edit.add(
            "Add", [result, bias], near=node, base=f"{output.name}_biased", dtype=FLOAT
        )
    result.shape = output.shape
    edit.redirect(output, result)
    edit.remove(node)
