"""Writing QuantizeLinear and DequantizeLinear nodes.

Source: ONNX QuantizeLinear and DequantizeLinear, opset 13 (per axis), 21 (blocks; 4 and 16 bits)
and 25 (2 bits).
"""

from __future__ import annotations

import numpy as np

from onnxcompress.ir.edit import Attribute, Editor
from onnxcompress.ir.model import Constant, Node, Tensor, Variable
from onnxcompress.quantization.granularity import PerBlock, PerChannel
from onnxcompress.quantization.qparams import QParams, dequantize, integer_limits, quantize

FLOAT = np.dtype(np.float32)

_ENDS = ("low", "high")


def quantized(edit: Editor, tensor: Tensor, qparams: QParams, near: Node) -> Variable:
    """Adds QuantizeLinear(tensor) and returns its integers.

    Where the word is shorter than the integer type, which is where QuantizeLinear saturates, a Clip
    before it keeps the integers within the word.
    """
    source = tensor
    if qparams.limits != integer_limits(qparams.zero_point.dtype):
        ends = dequantize(np.array(qparams.limits, qparams.zero_point.dtype), qparams)
        bounds = [edit.shared(f"{tensor.name}_{end}", ends[i]) for i, end in enumerate(_ENDS)]
        source = edit.add(
            "Clip",
            [tensor, *bounds],
            near=near,
            base=f"{tensor.name}_clipped",
            dtype=FLOAT,
            shape=tensor.shape,
        )
    return edit.add(
        "QuantizeLinear",
        [source, *_stored(edit, tensor.name, qparams)],
        near=near,
        base=f"{tensor.name}_quantized",
        dtype=qparams.zero_point.dtype,
        shape=tensor.shape,
    )


def dequantized(
    edit: Editor,
    integers: Tensor,
    qparams: QParams,
    near: Node,
    base: str,
    *,
    share: bool = True,
) -> Variable:
    """Adds DequantizeLinear(integers) and returns the real values; see `stored_dequantized`."""
    attrs: dict[str, Attribute] = {}
    match qparams.granularity:
        case PerChannel(axis):
            attrs = {"axis": axis}
        case PerBlock(axis, block_size):
            attrs = {"axis": axis, "block_size": block_size}
    return edit.add(
        "DequantizeLinear",
        [integers, *_stored(edit, base, qparams, share=share)],
        near=near,
        base=base,
        attrs=attrs,
        dtype=FLOAT,
        shape=integers.shape,
    )


def stored_dequantized(
    edit: Editor,
    weight: Constant,
    values: np.ndarray,
    qparams: QParams,
    near: Node,
    *,
    share: bool = True,
) -> Variable:
    """Stores `values` as integers with a DequantizeLinear that gives them back.

    Each reader gets its own, which onnxruntime fuses with it; the integers are stored once.

    Args:
        edit: records the change.
        weight: the tensor that the integers stand for; lends its name.
        values: float values; integers if they are quantized already.
        qparams: how.
        near: the reader.
        share: whether others may read the same stored tensors. Not in bodies: onnxruntime 1.31 does
            not load a DequantizeLinear before a MatMul if they are stored in an outer graph.
    """
    integers = values if values.dtype == qparams.zero_point.dtype else quantize(values, qparams)
    store = edit.shared if share else edit.constant
    stored = store(f"{weight.name}_quantized", integers)
    return dequantized(edit, stored, qparams, near, f"{weight.name}_dequantized", share=share)


def _stored(edit: Editor, base: str, qparams: QParams, *, share: bool = True) -> list[Constant]:
    """Scale and zero point.

    A zero point of zeros could be left out, but onnxruntime fuses a Gemm only if its weight has
    one. An int32 bias is fused without, and so are blocks, of which there are many.
    """
    store = edit.shared if share else edit.constant
    scale = store(f"{base}_scale", qparams.scale)
    in_blocks = isinstance(qparams.granularity, PerBlock)
    if qparams.zero_point.dtype == np.int32 or (in_blocks and is_symmetric(qparams)):
        return [scale]
    return [scale, store("zero_point", qparams.zero_point)]


def is_symmetric(qparams: QParams) -> bool:
    """Whether all zero points are zero."""
    return not qparams.zero_point.astype(np.int32).any()
