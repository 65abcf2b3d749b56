"""Attention within windows of an image, every other time shifted (Liu et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WINDOW = 4


class _WindowAttention(nn.Module):
    """Queries, keys and values by one Linear, with a bias by the places of a window."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.merged = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, _WINDOW**2, _WINDOW**2))

    def forward(self, x: Tensor) -> Tensor:
        count, length, width = x.shape
        merged = self.merged(x).reshape(count, length, 3, self.heads, width // self.heads)
        query, key, value = merged.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5 + self.bias
        mixed = scores.softmax(-1) @ value
        return self.output(mixed.transpose(1, 2).reshape(count, length, width))


class _SwinBlock(nn.Module):
    def __init__(self, width: int, heads: int, shift: int):
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _WindowAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 24), nn.GELU(), nn.Linear(24, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, wide, width = x.shape
        rows, columns = height // _WINDOW, wide // _WINDOW
        inner = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        inner = inner.view(batch, rows, _WINDOW, columns, _WINDOW, width)
        inner = inner.permute(0, 1, 3, 2, 4, 5).reshape(-1, _WINDOW**2, width)
        inner = self.attention(inner).view(batch, rows, columns, _WINDOW, _WINDOW, width)
        inner = inner.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, wide, width)
        x = x + torch.roll(inner, (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class _MergePatches(nn.Module):
    """Four neighbours side by side, then half as many channels."""

    def __init__(self, width: int):
        super().__init__()
        self.narrow = nn.Linear(4 * width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.narrow(torch.cat(corners, -1))


class Swin(nn.Module):
    """Two blocks on 8x8 patches, patches merged, one block."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 2, 2)
        self.blocks = nn.Sequential(
            _SwinBlock(width, 2, 0),
            _SwinBlock(width, 2, 2),
            _MergePatches(width),
            _SwinBlock(2 * width, 4, 0),
        )
        self.head = nn.Linear(2 * width, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.blocks(self.patches(image).permute(0, 2, 3, 1))
        return self.head(x.mean((1, 2)))
