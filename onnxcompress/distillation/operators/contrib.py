"""What onnxruntime adds to the standard set: fused operators of the domain com.microsoft.

Source: onnxruntime's contrib operators, since version 1 of com.microsoft.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.operators.normalization import root_mean_square


def _fused_matmul(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a = _turned(a, call.integer("transA", 0), call.integer("transBatchA", 0))
    b = _turned(b, call.integer("transB", 0), call.integer("transBatchB", 0))
    alpha = call.real("alpha", 1.0)
    product = torch.matmul(a, b)
    return product if alpha == 1.0 else product * alpha


def _turned(x: torch.Tensor, transposed: int, batch_inside: int) -> torch.Tensor:
    """An operand whose last axes are swapped, or whose second-to-last comes before the batch."""
    if batch_inside:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if transposed and x.dim() > 1 else x


def _gelu(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    return functional.gelu(x)


def _bias_gelu(call: Call, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    del call
    return functional.gelu(x + bias)


def _fast_gelu(call: Call, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    del call
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


def _quick_gelu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(call.real("alpha", 1.702) * x)


def _moments(x: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and inverse deviation along the last axis."""
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return mean, torch.rsqrt(variance + epsilon)


def _skip_layer_normalization(
    call: Call,
    x: torch.Tensor,
    skip: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    epsilon = call.real("epsilon", 1e-12)
    total = x + skip if bias is None else x + skip + bias
    y = functional.layer_norm(total, scale.shape, scale, shift, epsilon)
    return (y, *_moments(total, epsilon), total) if call.outputs() > 1 else y


def _skip_simplified_layer_normalization(
    call: Call,
    x: torch.Tensor,
    skip: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    total = x + skip if bias is None else x + skip + bias
    y, inverse = root_mean_square(total, scale, (-1,), call.real("epsilon", 1e-12), total.dtype)
    return (y, torch.zeros_like(inverse), inverse, total) if call.outputs() > 1 else y


def _embed_layer_normalization(
    call: Call,
    ids: torch.Tensor,
    segments: torch.Tensor | None,
    words: torch.Tensor,
    positions: torch.Tensor,
    segment_words: torch.Tensor | None,
    scale: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    at: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    where = torch.arange(ids.shape[1]) if at is None else at.long()
    total = functional.embedding(ids.long(), words) + functional.embedding(where, positions)
    if segments is not None and segment_words is not None:
        total = total + functional.embedding(segments.long(), segment_words)
    y = functional.layer_norm(total, scale.shape, scale, shift, call.real("epsilon", 1e-12))
    counts = ids.new_zeros(ids.shape[0]) if mask is None else mask.sum(1)
    return y, counts.to(torch.int32), total


def _matmul_nbits(
    call: Call,
    a: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    zero_points: torch.Tensor | None = None,
    groups: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    bits, block = call.integer("bits", 4), call.integer("block_size", 32)
    rows, columns = call.integer("K", 0), call.integer("N", 0)
    if groups is not None and groups.numel():
        raise call.unsupported("g_idx, groups in an order of their own")
    if 8 % bits:
        raise call.unsupported(f"bits={bits}; 2, 4 and 8 are supported")
    blocks = math.ceil(rows / block)
    codes = _unpacked(packed.reshape(columns, -1), bits)[:, : blocks * block]
    middle: torch.Tensor | float = float(1 << bits - 1)
    if zero_points is not None and zero_points.dtype == torch.uint8:
        middle = _unpacked(zero_points.reshape(columns, -1), bits)[:, :blocks].unsqueeze(-1)
    elif zero_points is not None:
        middle = zero_points.reshape(columns, blocks, 1)
    each = codes.reshape(columns, blocks, block).to(scales.dtype) - middle
    weight = (each * scales.reshape(columns, blocks, 1)).flatten(1)[:, :rows]
    return functional.linear(a, weight.to(a.dtype), bias)


def _unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes that share bytes along the last axis, the lowest bits first."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    spread = (packed.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)
    return spread.flatten(-2)


TABLE: Table = {
    "com.microsoft::FusedMatMul": _fused_matmul,
    "com.microsoft::Gelu": _gelu,
    "com.microsoft::BiasGelu": _bias_gelu,
    "com.microsoft::FastGelu": _fast_gelu,
    "com.microsoft::QuickGelu": _quick_gelu,
    "com.microsoft::SkipLayerNormalization": _skip_layer_normalization,
    "com.microsoft::SkipSimplifiedLayerNormalization": _skip_simplified_layer_normalization,
    "com.microsoft::EmbedLayerNormalization": _embed_layer_normalization,
    "com.microsoft::MatMulNBits": _matmul_nbits,
}
