"""Products with packed weights: com.microsoft MatMulNBits.

Source: onnxruntime's contrib operators, MatMulNBits, since version 1; measured with 1.31.1.
"""

from __future__ import annotations

import numpy as np

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Node
from onnxcompress.qdq.insert import FLOAT, is_symmetric
from onnxcompress.quantization.granularity import PerBlock
from onnxcompress.quantization.nibbles import pack_last_axis
from onnxcompress.quantization.qparams import QParams, integer_limits, quantize

_LEAST_BLOCK = 16
NBITS_WIDTHS = (4, 8)
WHOLE_2_BIT_COLUMNS = 4
"""onnxruntime 1.31.1 computes products with 2-bit weights rightly for multiples of this alone."""

_INT8_ACTIVATIONS = 4


def matmul_nbits(
    edit: Editor,
    matmul: Node,
    weight: Constant,
    values: np.ndarray,
    qparams: QParams,
    bits: int,
    *,
    rounds_activations: bool = False,
) -> None:
    """MatMul(x, W)  ->  MatMulNBits(x, W_packed, scales[, zero_points]).

    With 4 bits and no accuracy level the product is that of the dequantized weight; what
    onnxruntime makes of a DequantizeLinear by itself rounds activations to 8 bits, in blocks too.
    With 8 bits it has no other fast kernel, so there they are always rounded: one row times 576 x
    49152 took 1.4 ms, and 371 ms without (1.31, one thread).

    Args:
        edit: records the change.
        matmul: reads `weight` as its second input.
        weight: the second input; lends its name.
        values: float [K, N]; integers if they are quantized already.
        qparams: in blocks along axis 0; see `why_no_nbits`.
        bits: 4 or 8.
        rounds_activations: whether to round them with 4 bits too, which is faster for few rows.
    """
    assert isinstance(qparams.granularity, PerBlock)
    block = qparams.granularity.block_size
    depth, columns = values.shape
    dtype = qparams.zero_point.dtype
    lowest, _ = integer_limits(dtype)
    integers = values if values.dtype == dtype else quantize(values, qparams)
    codes = (integers.astype(np.int16) - lowest).astype(np.uint8)
    zero_points = (qparams.zero_point.astype(np.int16) - lowest).astype(np.uint8)
    blocks = -(-depth // block)
    rows = np.pad(codes.T, ((0, 0), (0, blocks * block - depth)))
    packed = pack_last_axis(rows.reshape(columns, blocks, block), bits)
    inputs = [
        matmul.inputs[0],
        edit.shared(f"{weight.name}_packed", packed),
        edit.shared(f"{weight.name}_scale", np.ascontiguousarray(qparams.scale.T)),
    ]
    if lowest == 0 or not is_symmetric(qparams):  # left out, it is the middle of the codes
        stored = pack_last_axis(zero_points.T, bits)
        inputs.append(edit.shared(f"{weight.name}_zero_point", stored))
    output = matmul.outputs[0]
    attrs = {"K": depth, "N": columns, "bits": bits, "block_size": block}
    if bits == 8 or rounds_activations:
        attrs["accuracy_level"] = _INT8_ACTIVATIONS
    product = edit.add(
        "MatMulNBits",
        inputs,
        near=matmul,
        base=f"{output.name}_nbits",
        attrs=attrs,
        domain="com.microsoft",
        dtype=FLOAT,
        shape=output.shape,
    )
    edit.redirect(output, product)
    edit.remove(matmul)


def why_no_nbits(weight: Constant, bits: int, block_size: int) -> str | None:
    """Why a MatMul cannot become MatMulNBits; None if it can."""
    if bits not in NBITS_WIDTHS:
        return f"MatMulNBits is written with {' or '.join(map(str, NBITS_WIDTHS))} bits, not {bits}"
    if len(weight.shape) != 2:
        return f"its weight {list(weight.shape)} is not one matrix, which MatMulNBits wants"
    if block_size < _LEAST_BLOCK or block_size & (block_size - 1):
        return f"MatMulNBits wants block_size a power of two from {_LEAST_BLOCK}, not {block_size}"
    return None


def why_fused_wrongly(node: Node, weight: Constant, bits: int) -> str | None:
    """Why a DequantizeLinear of that width must not stand before a product; None if it may.

    onnxruntime 1.31.1 turns it into MatMulNBits; with 2 bits that is wrong, silently, at every
    depth, block size and number of rows, unless the columns come in fours.
    """
    columns = weight.shape[-1]
    fused = node.op in ("MatMul", "Gemm") and not node.int_attr("transB", 0)
    if bits != 2 or not fused or columns % WHOLE_2_BIT_COLUMNS == 0:
        return None
    return (
        f"onnxruntime gives wrong results for 2-bit weights of {columns} columns: "
        f"no multiple of {WHOLE_2_BIT_COLUMNS}"
    )
