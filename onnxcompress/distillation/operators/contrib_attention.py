"""Attention as onnxruntime fuses it.

Source: onnxruntime's contrib operators Attention, MultiHeadAttention and RotaryEmbedding, since
version 1 of com.microsoft.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.operators.attention import merge_heads, rotate, split_heads

_MASKED = -10000.0


def _attend(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    before: int,
) -> torch.Tensor:
    """Attention of heads [batch, heads, length, size].

    Args:
        call: has scale, mask_filter_value and unidirectional.
        q: queries.
        k: keys.
        v: values.
        mask: nonzero where a key counts, [batch, keys] or [batch, queries, keys].
        bias: added to the scores, broadcast to [batch, heads, queries, keys].
        before: how many keys come before the first query.
    """
    if mask is not None:
        kept = mask.reshape(mask.shape[0], 1, -1, mask.shape[-1]) != 0
        masked = torch.where(kept, 0.0, call.real("mask_filter_value", _MASKED)).to(q.dtype)
        bias = masked if bias is None else masked + bias
    if call.integer("unidirectional", 0):
        ahead = torch.arange(k.shape[2]) > torch.arange(q.shape[2]).unsqueeze(-1) + before
        causal = torch.where(ahead, -math.inf, 0.0).to(q.dtype)
        bias = causal if bias is None else bias + causal
    scale = call.real("scale", 0.0) or None
    y = functional.scaled_dot_product_attention(q, k, v, bias, scale=scale)
    return merge_heads(y)


def _key_mask(call: Call, mask: torch.Tensor | None, k: torch.Tensor) -> torch.Tensor | None:
    """A mask in one of the forms onnxruntime takes, as [batch, keys] or [batch, queries, keys]."""
    if mask is None or mask.dim() in (2, 3):
        return mask
    if mask.dim() == 1 and len(mask) == k.shape[0]:
        return torch.arange(k.shape[2]) < mask.unsqueeze(-1)
    raise call.unsupported(f"a mask of shape {list(mask.shape)}")


def _attention(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    past: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    past_length: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    if past_length is not None or call.integer("do_rotary", 0):
        raise call.unsupported("a shared buffer of the past, or do_rotary")
    mixed = torch.matmul(x, w) if b is None else torch.matmul(x, w) + b
    third = mixed.shape[-1] // 3
    sizes = list(call.integers("qkv_hidden_sizes")) or [third] * 3
    heads = call.integer("num_heads", 1)
    q, k, v = (split_heads(each, heads) for each in torch.split(mixed, sizes, -1))
    before = 0
    if past is not None:
        before = past.shape[3]
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    y = _attend(call, q, k, v, _key_mask(call, mask, k), bias, before)
    return (y, torch.stack([k, v])) if call.outputs() > 1 else (y,)


def _multi_head_attention(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    past_k: torch.Tensor | None = None,
    past_v: torch.Tensor | None = None,
    past_length: torch.Tensor | None = None,
    indirection: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    if past_length is not None or indirection is not None:
        raise call.unsupported("a shared buffer of the past")
    if k is None or v is None or q.dim() != 3:
        raise call.unsupported("queries, keys and values packed in one tensor")
    heads = call.integer("num_heads", 1)
    if b is not None:
        of_q, of_k, of_v = torch.split(b, [q.shape[-1], q.shape[-1], b.shape[0] - 2 * q.shape[-1]])
        q, k, v = q + of_q, _shifted(k, of_k), _shifted(v, of_v)
    q = split_heads(q, heads)
    k, v = (each if each.dim() == 4 else split_heads(each, heads) for each in (k, v))
    before = 0
    if past_k is not None and past_v is not None:
        before = past_k.shape[2]
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    y = _attend(call, q, k, v, _key_mask(call, mask, k), bias, before)
    return (y, k, v)


def _shifted(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Plus a bias over heads and their size, whether these are one axis or two."""
    return x + bias if x.dim() == 3 else x + bias.reshape(x.shape[1], 1, x.shape[3])


def _rotary_embedding(
    call: Call,
    x: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> torch.Tensor:
    size = call.integer("rotary_embedding_dim", 0) or 2 * cos.shape[-1]
    heads = call.integer("num_heads", 0)
    flat = x.dim() == 3
    split = split_heads(x, heads or x.shape[-1] // size) if flat else x
    if positions.numel() == 1 and positions.dim() == 1:
        positions = (positions + torch.arange(split.shape[2])).unsqueeze(0)
    cos, sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)
    turned = rotate(split, cos, sin, size, bool(call.integer("interleaved", 0)))
    turned = turned * call.real("scale", 1.0)
    return merge_heads(turned) if flat else turned


TABLE: Table = {
    "com.microsoft::Attention": _attention,
    "com.microsoft::MultiHeadAttention": _multi_head_attention,
    "com.microsoft::RotaryEmbedding": _rotary_embedding,
}
