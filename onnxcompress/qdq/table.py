"""Tables that Gather reads, stored as int8."""

from __future__ import annotations

import numpy as np

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Node, Variable
from onnxcompress.qdq.insert import FLOAT
from onnxcompress.quantization.granularity import PerChannel
from onnxcompress.quantization.qparams import quantize, symmetric_qparams


def quantize_table(edit: Editor, gather: Node, table: Constant) -> None:
    """Gather(T, i)  ->  Mul(Cast(Gather(T_int8, i)), Gather(scale, i)), one scale for each row.

    Only the rows that are read are ever converted; DequantizeLinear on the table itself would
    convert all of it at every run.

    Args:
        edit: records the change.
        gather: reads rows of `table` (axis 0).
        table: float32 [rows, ...].
    """
    qparams = symmetric_qparams(table.values, PerChannel(0))
    integers = edit.shared(f"{table.name}_quantized", quantize(table.values, qparams))
    one_a_row = qparams.scale.reshape(-1, *[1] * (len(table.shape) - 1))
    scales = edit.shared(f"{table.name}_scale", one_a_row)
    indices, output = gather.inputs[1], gather.outputs[0]

    def rows(source: Constant, dtype: np.dtype, base: str) -> Variable:
        return edit.add("Gather", [source, indices], near=gather, base=base, dtype=dtype)

    levels = rows(integers, np.dtype(np.int8), f"{output.name}_levels")
    real = edit.add(
        "Cast",
        [levels],
        near=gather,
        base=f"{output.name}_unscaled",
        attrs={"to": 1},
        dtype=FLOAT,
    )
    row_scale = rows(scales, FLOAT, f"{output.name}_scale")
    product = edit.add(
        "Mul", [real, row_scale], near=gather, base=f"{output.name}_dequantized", dtype=FLOAT
    )
    product.shape = output.shape
    edit.redirect(output, product)
    edit.remove(gather)


def why_no_table(gather: Node, table: Constant) -> str | None:
    """Why a Gather of a stored float tensor stays as it is; None if it reads rows of a matrix."""
    if table.dtype != np.float32:
        return f"its table is {table.dtype}, not float32"
    if len(table.shape) != 2 or gather.int_attr("axis", 0) not in (0, -2):
        return "does not read rows of a matrix"
    return None if np.isfinite(table.values).all() else "its table holds NaN or infinite values"
