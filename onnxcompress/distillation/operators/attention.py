"""Attention and what goes with it.

Source: ONNX Attention (opsets 23 to 25; in opset 23 too, scores are capped before the mask is
added, as in onnxruntime), RotaryEmbedding (opset 23).
"""

from __future__ import annotations

import math

import onnx
import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, length, heads * size]  ->  [batch, heads, length, size]."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """[batch, heads, length, size]  ->  [batch, length, heads * size]."""
    return x.transpose(1, 2).flatten(2)


def _attention(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    past_k: torch.Tensor | None = None,
    past_v: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    flat = q.dim() == 3
    if flat:
        q = split_heads(q, call.integer("q_num_heads", 1))
        k, v = (split_heads(each, call.integer("kv_num_heads", 1)) for each in (k, v))
    if past_k is not None and past_v is not None:
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    offset = torch.tensor(0 if past_k is None else past_k.shape[2])
    if lengths is not None:
        offset = (lengths - q.shape[2]).reshape(-1, 1, 1, 1)
    repeats = q.shape[1] // k.shape[1]
    all_k = k if repeats == 1 else k.repeat_interleave(repeats, 1)
    all_v = v if repeats == 1 else v.repeat_interleave(repeats, 1)
    bias = _bias(call, q, k, mask, offset, lengths)
    scale = call.real("scale", 0.0) or 1 / math.sqrt(q.shape[-1])
    softcap = call.real("softcap", 0.0)
    if call.outputs() < 4 and not softcap and not call.has("softmax_precision"):
        y = functional.scaled_dot_product_attention(q, all_k, all_v, bias, scale=scale)
        return (merge_heads(y) if flat else y, k, v)
    y, scores = _spelled_out(call, q, all_k, all_v, bias, scale, softcap)
    return (merge_heads(y) if flat else y, k, v, scores)


def _bias(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor,
    mask: torch.Tensor | None,
    offset: torch.Tensor,
    lengths: torch.Tensor | None,
) -> torch.Tensor | None:
    """What is added to the scores, [..., queries, keys]; None if nothing is."""
    queries, keys = q.shape[2], k.shape[2]
    allowed: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    if mask is not None and mask.shape[-1] < keys:  # what it does not cover is masked
        missing = keys - mask.shape[-1]
        beyond = False if mask.dtype == torch.bool else -math.inf
        mask = functional.pad(mask, (0, missing), value=beyond)
    if mask is not None and mask.dtype == torch.bool:
        allowed = mask
    elif mask is not None:
        bias = mask.to(q.dtype)
    at = torch.arange(keys)
    ahead = at - (torch.arange(queries).unsqueeze(-1) + offset)
    rules = []
    if call.integer("is_causal", 0):
        rules.append(ahead <= 0)
    if (left := call.integer("left_window_size", -1)) >= 0:
        rules.append(ahead >= -left)
    if (right := call.integer("right_window_size", -1)) >= 0:
        rules.append(ahead <= right)
    if lengths is not None:
        rules.append(at < lengths.reshape(-1, 1, 1, 1))
    for rule in rules:
        allowed = rule if allowed is None else allowed & rule
    if allowed is None:
        return bias
    shut = torch.where(allowed, 0.0, -math.inf).to(q.dtype)
    return shut if bias is None else bias + shut


def _spelled_out(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    softcap: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output and the scores that the fourth output asks for."""
    root = math.sqrt(scale)
    plain = torch.matmul(q * root, k.transpose(-1, -2) * root)
    capped = softcap * torch.tanh(plain / softcap) if softcap else plain
    biased = capped if bias is None else capped + bias
    precise = call.has("softmax_precision")
    wide = biased.to(call.type("softmax_precision", onnx.TensorProto.FLOAT)) if precise else biased
    empty = (wide == -math.inf).all(-1, keepdim=True)
    weights = torch.softmax(torch.where(empty, 0.0, wide), -1)
    weights = torch.where(empty, 0.0, weights).to(q.dtype)
    scores = (plain, capped, biased, weights)[call.integer("qk_matmul_output_mode", 0)]
    return torch.matmul(weights, v), scores


def rotate(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    size: int,
    interleaved: bool,
) -> torch.Tensor:
    """Rotary position embedding (Su et al. 2021).

    Args:
        x: [batch, heads, length, head size].
        cos: broadcasts to [batch, 1, length, size / 2].
        sin: like cos.
        size: how many of the head's entries are rotated.
        interleaved: whether pairs are neighbours, rather than half the size apart.
    """
    turned, rest = x[..., :size], x[..., size:]
    if interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned.chunk(2, -1)
    real = cos * first - sin * second
    imaginary = sin * first + cos * second
    if interleaved:
        mixed = torch.stack([real, imaginary], -1).flatten(-2)
    else:
        mixed = torch.cat([real, imaginary], -1)
    return torch.cat([mixed, rest], -1) if rest.shape[-1] else mixed


def _rotary_embedding(
    call: Call,
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    flat = x.dim() == 3
    heads = split_heads(x, call.integer("num_heads", 1)) if flat else x
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    size = call.integer("rotary_embedding_dim", 0) or heads.shape[-1]
    turned = rotate(
        heads, cos.unsqueeze(1), sin.unsqueeze(1), size, bool(call.integer("interleaved", 0))
    )
    return merge_heads(turned) if flat else turned


TABLE: Table = {"Attention": _attention, "RotaryEmbedding": _rotary_embedding}
