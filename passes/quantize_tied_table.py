"""Stores a table once that tokens are looked up in and that logits are made with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Attribute, Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor, Variable
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.candidates import is_no_table, why_not_float32
from onnxcompress.qdq.insert import FLOAT
from onnxcompress.qdq.nbits import matmul_nbits, why_no_nbits
from onnxcompress.qdq.table import why_no_table
from onnxcompress.quantization.granularity import PerBlock
from onnxcompress.quantization.qparams import integer_limits, quantize, symmetric_qparams

_BITS = 8
_FLOAT_TYPE = 1


@dataclass(frozen=True, kw_only=True)
class QuantizeTiedTable(Pass):
    """Gather(T, i), MatMul(x, T^T)  ->  Gather(T_uint8, i) * scale, MatMulNBits(x, T_uint8, scale).

    Language models look tokens up in the table that they make logits with. Exporters write it
    twice, once transposed, or once with a Transpose; either way it is stored once here, in 8 bits,
    a scale for each block of a row. Other tables and products are left to quantize-weights.
    Source: onnxruntime's MatMulNBits, whose packed rows are those that Gather reads.

    Attributes:
        block_size: columns that share a scale, a power of two from 16 that divides them.
        min_elements: smaller tables stay float; they are not worth the nodes.
    """

    name: ClassVar[str] = "quantize-tied-table"
    seeks: ClassVar[str] = "Gather from a stored table of floats"
    opset: ClassVar[int] = 13  # Unsqueeze has its axes as an input

    block_size: int = 32
    min_elements: int = 1024

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        tables: dict[Constant, list[Node]] = defaultdict(list)
        for gather in query.nodes(model, {"Gather"}):
            table = query.constant(gather, 0)
            if table is None or is_no_table(table):
                continue
            options = self.at(gather)
            reason = EXCLUDED if options is None else options._unfit(gather, table)
            if reason is None:
                tables[table].append(gather)
            else:
                edit.skip(gather, reason)
        products = query.nodes(model, {"MatMul"})
        for table, gathers in tables.items():
            tied = [product for product in products if _reads_transposed(product, table)]
            products = [product for product in products if product not in tied]
            chosen = [product for product in tied if self.at(product) is not None]
            reason = EXCLUDED if tied else "no product reads the same table, transposed"
            for node in [*(gathers if not chosen else ()), *(set(tied) - set(chosen))]:
                edit.skip(node, reason)
            if chosen:
                options = self.at(gathers[0])
                assert options is not None
                options._store(edit, table, gathers, chosen)

    def _unfit(self, gather: Node, table: Constant) -> str | None:
        """Why a table stays float whatever else reads it; None if it need not."""
        reason = why_not_float32(table, self.min_elements) or why_no_table(gather, table)
        reason = reason or why_no_nbits(table, _BITS, self.block_size)
        if reason is None and table.shape[1] % self.block_size:
            return f"its rows of {table.shape[1]} do not divide into blocks of {self.block_size}"
        return reason

    def _store(
        self, edit: Editor, table: Constant, gathers: Sequence[Node], products: Sequence[Node]
    ) -> None:
        """Makes all of them read one stored tensor and its scales."""
        rows, columns = table.shape
        transposed = table.values.T
        qparams = symmetric_qparams(transposed, PerBlock(0, self.block_size), _BITS)
        integers = quantize(transposed, qparams)
        for product in products:
            matmul_nbits(edit, product, table, integers, qparams, _BITS)
        # The very tensors that the products have got: the editor knows them by their values.
        middle, _ = integer_limits(integers.dtype)
        codes = (integers.T.astype(np.int16) - middle).astype(np.uint8)
        packed = edit.shared(f"{table.name}_packed", codes.reshape(rows, -1, self.block_size))
        scale = edit.shared(f"{table.name}_scale", np.ascontiguousarray(qparams.scale.T))
        for gather in gathers:
            _look_up(edit, gather, packed, scale, -middle, columns)


def _look_up(
    edit: Editor, gather: Node, packed: Constant, scale: Constant, middle: int, columns: int
) -> None:
    """Reads rows of blocks and makes floats of them alone."""
    indices = gather.inputs[1]

    def add(
        op: str, inputs: list[Tensor], what: str, dtype: np.dtype, **attrs: Attribute
    ) -> Variable:
        base = f"{gather.outputs[0].name}_{what}"
        return edit.add(op, inputs, near=gather, base=base, attrs=attrs, dtype=dtype)

    long = np.dtype(np.int64)
    blocks = add("Gather", [packed, indices], "blocks", packed.dtype)
    levels = add("Cast", [blocks], "levels", FLOAT, to=_FLOAT_TYPE)
    centre = edit.shared(f"{packed.name}_middle", np.array(middle, np.float32))
    centred = add("Sub", [levels, centre], "centred", FLOAT)
    # Computed, so that no later pass takes the scales for a table to be quantized.
    last = edit.shared("last_axis", np.array([-1], np.int64))
    factors = add("Unsqueeze", [scale, last], "scale", FLOAT)
    factor = add("Gather", [factors, indices], "factors", FLOAT)
    real = add("Mul", [centred, factor], "blocks_dequantized", FLOAT)
    outer = add("Shape", [indices], "indices", long)
    inner = edit.shared("row_shape", np.array([columns], np.int64))
    shape = add("Concat", [outer, inner], "shape", long, axis=0)
    rows = add("Reshape", [real, shape], "dequantized", FLOAT)
    rows.shape = gather.outputs[0].shape
    edit.redirect(gather.outputs[0], rows)
    edit.remove(gather)


def _reads_transposed(product: Node, table: Constant) -> bool:
    """Whether a product's weight is a table's transpose, computed or stored."""
    weight = product.inputs[1]
    if isinstance(weight, Constant):
        return (
            weight.shape == table.shape[::-1]
            and weight.dtype == table.dtype
            and bool(np.array_equal(weight.values, table.values.T))
        )
    transpose = query.producer_of(weight, "Transpose")
    return transpose is not None and transpose.inputs[0] is table
