"""Transformers: ViT, a BERT-like encoder with padding, a GPT-like decoder with grouped queries."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

VOCABULARY = 24
POSITIONS = 32


class _FusedAttention(nn.Module):
    """Queries, keys and values by one Linear, and products written out."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.size = width // heads
        self.merged = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        merged = self.merged(x).reshape(batch, length, 3, self.heads, self.size)
        query, key, value = merged.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (query * self.size**-0.5) @ key.transpose(-2, -1)
        mixed = scores.softmax(dim=-1) @ value
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


class _TorchAttention(nn.Module):
    """What torch itself calls multi-head attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.inner = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class _PreNormBlock(nn.Module):
    def __init__(self, attention: nn.Module, width: int, hidden: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = attention
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


class VisionTransformer(nn.Module):
    """A convolution cuts patches, blocks norm first (Dosovitskiy et al., 2020)."""

    def __init__(self, attention: type[nn.Module], width: int = 16, heads: int = 4):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 17, width))
        self.blocks = nn.Sequential(
            *(_PreNormBlock(attention(width, heads), width, 40) for _ in range(2))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit() -> nn.Module:
    """With attention written out."""
    return VisionTransformer(_FusedAttention)


def vit_torch_attention() -> nn.Module:
    """With nn.MultiheadAttention."""
    return VisionTransformer(_TorchAttention)


class _BertLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, self.size).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = map(self._by_head, (self.query(x), self.key(x), self.value(x)))
        scores = query @ key.transpose(-1, -2) / self.size**0.5 + bias
        mixed = (scores.softmax(-1) @ value).permute(0, 2, 1, 3).contiguous()
        x = self.norm1(x + self.output(mixed.view(*x.shape)))
        return self.norm2(x + self.narrow(F.gelu(self.widen(x))))


class Bert(nn.Module):
    """Norms after each addition, padding by an additive mask (Devlin et al., 2018)."""

    def __init__(self, width: int = 16, heads: int = 4, hidden: int = 40):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.places = nn.Embedding(POSITIONS, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_BertLayer(width, heads, hidden) for _ in range(2))
        self.pooler = nn.Linear(width, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1])
        x = self.norm(self.words(input_ids) + self.places(places))
        mask = attention_mask.to(x.dtype)
        for layer in self.layers:
            x = layer(x, (1 - mask[:, None, None, :]) * -10000.0)
        pooled = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(torch.tanh(self.pooler(pooled)))


class SdpaEncoder(nn.Module):
    """An encoder layer around torch's scaled_dot_product_attention, with padding."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(input_ids)
        batch, length, width = x.shape

        def by_head(flat: Tensor) -> Tensor:
            return flat.view(batch, length, 4, width // 4).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            by_head(self.query(x)),
            by_head(self.key(x)),
            by_head(self.value(x)),
            attn_mask=attention_mask[:, None, None, :].bool(),
        )
        x = self.norm(x + self.output(mixed.transpose(1, 2).reshape(batch, length, width)))
        return self.head(x[:, 0])


class _RmsNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5))


class _GptLayer(nn.Module):
    """Eight query heads share four heads of keys and values (Ainslie et al., 2023); SwiGLU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.heads, self.shared, self.size = 8, 4, 4
        self.splits = [size * self.size for size in (self.heads, self.shared, self.shared)]
        self.merged = nn.Linear(width, sum(self.splits), bias=False)
        self.output = nn.Linear(self.splits[0], width, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.norm1, self.norm2 = _RmsNorm(width), _RmsNorm(width)

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = self.merged(x).split(self.splits, dim=-1)
        query = query.view(batch, length, self.heads, self.size).transpose(1, 2)
        key = key.view(batch, length, self.shared, self.size).transpose(1, 2)
        value = value.view(batch, length, self.shared, self.size).transpose(1, 2)
        key, value = (self._repeat(each) for each in (key, value))
        hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = (query @ key.transpose(-1, -2)) * self.size**-0.5
        weights = scores.masked_fill(hidden, -1e4).softmax(-1)
        return self.output((weights @ value).transpose(1, 2).reshape(batch, length, -1))

    def _repeat(self, x: Tensor) -> Tensor:
        batch, heads, length, size = x.shape
        times = self.heads // self.shared
        x = x[:, :, None].expand(batch, heads, times, length, size)
        return x.reshape(batch, heads * times, length, size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.norm1(x))
        inner = self.norm2(x)
        return x + self.down(F.silu(self.gate(inner)) * self.up(inner))


class Gpt(nn.Module):
    """A decoder whose last product is tied to its embedding."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width)
        self.places = nn.Parameter(torch.zeros(POSITIONS, width))
        self.layers = nn.Sequential(*(_GptLayer(width, 24) for _ in range(2)))
        self.norm = _RmsNorm(width)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places[: input_ids.shape[1]]
        return F.linear(self.norm(self.layers(x)), self.words.weight)
