"""Depthwise convolutions: MobileNetV2 and V3, ShuffleNetV2, ConvNeXt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .residual import conv_norm


class _InvertedResidual(nn.Module):
    def __init__(
        self,
        inner: int,
        outer: int,
        *,
        hidden: int,
        stride: int,
        activation: type[nn.Module],
        squeeze: int = 0,
    ):
        super().__init__()
        layers = [conv_norm(inner, hidden, 1), activation()]
        layers += [conv_norm(hidden, hidden, stride=stride, groups=hidden), activation()]
        layers += [_SqueezeExcite(hidden, squeeze)] if squeeze else []
        self.body = nn.Sequential(*layers, conv_norm(hidden, outer, 1))
        self.adds = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def _scaled(times: int) -> Callable[..., nn.Module]:
    """Makes inverted residuals with channels by the multiple."""

    def block(inner: int, outer: int, hidden: int, **options: Any) -> nn.Module:
        return _InvertedResidual(inner * times, outer * times, hidden=hidden * times, **options)

    return block


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def mobilenet_v2(times: int = 1) -> nn.Module:
    """Inverted residuals with ReLU6 (Sandler et al., 2018)."""
    block = _scaled(times)
    return nn.Sequential(
        conv_norm(3, 8 * times, stride=2),
        nn.ReLU6(),
        block(8, 8, 24, stride=1, activation=nn.ReLU6),
        block(8, 12, 24, stride=2, activation=nn.ReLU6),
        block(12, 12, 36, stride=1, activation=nn.ReLU6),
        conv_norm(12 * times, 20 * times, 1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(20 * times, 5),
    )


def mobilenet_v3(times: int = 1) -> nn.Module:
    """The same with HardSwish and squeeze-and-excite (Howard et al., 2019)."""
    block = _scaled(times)
    return nn.Sequential(
        conv_norm(3, 8 * times, stride=2),
        nn.Hardswish(),
        block(8, 8, 16, stride=1, activation=nn.ReLU, squeeze=8),
        block(8, 12, 24, stride=2, activation=nn.Hardswish, squeeze=8),
        block(12, 12, 24, stride=1, activation=nn.Hardswish, squeeze=8),
        conv_norm(12 * times, 20 * times, 1),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(20 * times, 16 * times),
        nn.Hardswish(),
        nn.Linear(16 * times, 5),
    )


def _shuffle(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return x.transpose(1, 2).contiguous().view(batch, channels, height, width)


class _ShuffleUnit(nn.Module):
    """Halves the channels, works on one half, and shuffles; at stride 2 both halves see all."""

    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.stride = stride
        half = outer // 2
        start = inner if stride == 2 else half
        self.body = nn.Sequential(
            conv_norm(start, half, 1),
            nn.ReLU(),
            conv_norm(half, half, stride=stride, groups=half),
            conv_norm(half, half, 1),
            nn.ReLU(),
        )
        down = conv_norm(inner, inner, stride=2, groups=inner), conv_norm(inner, half, 1), nn.ReLU()
        self.down = nn.Sequential(*(down if stride == 2 else ()))

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = (self.down(x), x) if self.stride == 2 else x.chunk(2, dim=1)
        return _shuffle(torch.cat((kept, self.body(worked)), dim=1), 2)


def shufflenet_v2(times: int = 1) -> nn.Module:
    """Split, Concat and channel shuffles by Reshape and Transpose (Ma et al., 2018)."""
    return nn.Sequential(
        conv_norm(3, 8 * times),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        _ShuffleUnit(8 * times, 16 * times, 2),
        _ShuffleUnit(16 * times, 16 * times, 1),
        _ShuffleUnit(16 * times, 16 * times, 1),
        conv_norm(16 * times, 20 * times, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(20 * times, 5),
    )


class _ConvNextBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 3 * channels)
        self.narrow = nn.Linear(3 * channels, channels)
        self.scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inner = self.scale * self.narrow(nn.functional.gelu(self.widen(inner)))
        return x + inner.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """LayerNorm and Linear over channels that were moved last (Liu et al., 2022)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 2, 2),
        _ConvNextBlock(8),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 12, 2, 2),
        _ConvNextBlock(12),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(12),
        nn.Linear(12, 5),
    )
