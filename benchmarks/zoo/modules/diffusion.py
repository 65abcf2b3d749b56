"""A denoiser's blocks: GroupNorm before each convolution, attention over pixels by einsum."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class _Residual(nn.Module):
    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, inner), nn.GroupNorm(4, outer)
        self.first = nn.Conv2d(inner, outer, 3, padding=1)
        self.second = nn.Conv2d(outer, outer, 3, padding=1)
        self.shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.second(F.silu(self.norm2(inner)))


class _PixelAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, width)
        self.merged = nn.Conv2d(width, 3 * width, 1)
        self.output = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, wide = x.shape
        parts = self.merged(self.norm(x)).chunk(3, dim=1)
        shape = batch, self.heads, width // self.heads, height * wide
        query, key, value = (part.reshape(shape) for part in parts)
        scores = torch.einsum("bhdi,bhdj->bhij", query, key) * shape[2] ** -0.5
        mixed = torch.einsum("bhij,bhdj->bhdi", scores.softmax(-1), value)
        return x + self.output(mixed.reshape(batch, width, height, wide))


def denoiser(times: int = 1) -> nn.Module:
    """One level down and up (Ho et al., 2020), without the time."""
    return nn.Sequential(
        nn.Conv2d(3, 8 * times, 3, padding=1),
        _Residual(8 * times, 16 * times),
        nn.Conv2d(16 * times, 16 * times, 3, 2, 1),
        _PixelAttention(16 * times, 4),
        _Residual(16 * times, 16 * times),
        nn.Upsample(scale_factor=2.0),
        nn.GroupNorm(4, 16 * times),
        nn.SiLU(),
        nn.Conv2d(16 * times, 3, 3, padding=1),
    )
