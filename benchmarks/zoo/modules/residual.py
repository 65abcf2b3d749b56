"""Convolutions with shortcuts: ResNet, ResNeXt, option-A shortcuts, shared weights and biases."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def conv_norm(
    inner: int, outer: int, size: int = 3, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps height and width at stride 1, without bias, and BatchNorm."""
    conv = nn.Conv2d(inner, outer, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer))


class _Block(nn.Module):
    """A branch of convolutions beside a shortcut, which is projected where shapes change."""

    def __init__(self, body: nn.Module, inner: int, outer: int, stride: int):
        super().__init__()
        self.body = body
        keeps = inner == outer and stride == 1
        self.shortcut = nn.Identity() if keeps else conv_norm(inner, outer, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _basic(inner: int, outer: int, stride: int) -> nn.Module:
    first = conv_norm(inner, outer, stride=stride)
    return _Block(nn.Sequential(first, nn.ReLU(), conv_norm(outer, outer)), inner, outer, stride)


def _bottleneck(inner: int, outer: int, stride: int, groups: int = 1) -> nn.Module:
    width = outer // 2
    body = nn.Sequential(
        conv_norm(inner, width, 1),
        nn.ReLU(),
        conv_norm(width, width, stride=stride, groups=groups),
        nn.ReLU(),
        conv_norm(width, outer, 1),
    )
    return _Block(body, inner, outer, stride)


def _classifier(*blocks: nn.Module, width: int, stem: int = 8) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(3, stem),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


def basic_resnet() -> nn.Module:
    """ResNet-18's blocks (He et al., 2015), with a projection where the stride is 2."""
    return _classifier(_basic(8, 8, 1), _basic(8, 12, 2), _basic(12, 12, 1), width=12)


def bottleneck_resnet() -> nn.Module:
    """ResNet-50's blocks."""
    return _classifier(
        _bottleneck(8, 16, 1), _bottleneck(16, 16, 1), _bottleneck(16, 24, 2), width=24
    )


def resnext(times: int = 1) -> nn.Module:
    """Bottlenecks around a grouped convolution (Xie et al., 2016)."""
    return _classifier(
        _bottleneck(8 * times, 24 * times, 1, groups=4),
        _bottleneck(24 * times, 32 * times, 2, groups=4),
        width=32 * times,
        stem=8 * times,
    )


class _ZeroPadded(nn.Module):
    """A shortcut that drops every second pixel and pads channels with zeros (option A)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.pads = (0, 0, 0, 0, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], self.pads)


def option_a_resnet() -> nn.Module:
    """The ResNet for CIFAR-10 of He et al., whose shortcuts have no weights."""
    block = _basic(8, 16, 2)
    block.shortcut = _ZeroPadded(4, 4)
    return _classifier(_basic(8, 8, 1), block, _basic(16, 16, 1), width=16)


class SharedTensors(nn.Module):
    """Convolutions with one bias between them, and one convolution that is applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bias = nn.Parameter(self.stem.weight.new_zeros(8))
        self.first = nn.Parameter(self.stem.weight.new_zeros(8, 8, 3, 3))
        self.second = nn.Parameter(self.stem.weight.new_zeros(8, 8, 3, 3))
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.stem(image))
        x = x + F.relu(F.conv2d(x, self.first, self.bias, padding=1))
        x = F.relu(F.conv2d(x, self.second, self.bias, padding=1))
        x = F.relu(self.squeeze(x))
        x = F.relu(self.twice(F.relu(self.twice(x))))
        return self.head(x.mean((2, 3)))
