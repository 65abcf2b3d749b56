"""Concat everywhere: DenseNet, Inception; and Flatten before Gemm: VGG."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .residual import conv_norm


class _DenseLayer(nn.Module):
    def __init__(self, inner: int, growth: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, 2 * growth, 1, bias=False),
            nn.BatchNorm2d(2 * growth),
            nn.ReLU(),
            nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.body(x)), 1)


def densenet(times: int = 1) -> nn.Module:
    """BatchNorm after each Concat, so masked channels still emit (Huang et al., 2016)."""
    return nn.Sequential(
        conv_norm(3, 8 * times),
        nn.ReLU(),
        _DenseLayer(8 * times, 4 * times),
        _DenseLayer(12 * times, 4 * times),
        nn.BatchNorm2d(16 * times),
        nn.ReLU(),
        nn.Conv2d(16 * times, 8 * times, 1, bias=False),
        nn.AvgPool2d(2),
        _DenseLayer(8 * times, 4 * times),
        nn.BatchNorm2d(12 * times),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12 * times, 5),
    )


class _Mixed(nn.Module):
    def __init__(self, inner: int, widths: tuple[int, ...], squeezed: int):
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(conv_norm(inner, widths[0], 1), nn.ReLU()),
                nn.Sequential(
                    conv_norm(inner, squeezed, 1),
                    nn.ReLU(),
                    conv_norm(squeezed, widths[1]),
                    nn.ReLU(),
                ),
                nn.Sequential(
                    conv_norm(inner, squeezed, 1),
                    nn.ReLU(),
                    conv_norm(squeezed, widths[2], 5),
                    nn.ReLU(),
                ),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_norm(inner, widths[3], 1), nn.ReLU()),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception(times: int = 1) -> nn.Module:
    """Parallel branches of several sizes (Szegedy et al., 2014)."""

    def mixed(inner: int, *widths: int) -> nn.Module:
        return _Mixed(inner * times, tuple(each * times for each in widths), 8 * times)

    return nn.Sequential(
        conv_norm(3, 8 * times),
        nn.ReLU(),
        nn.MaxPool2d(2),
        mixed(8, 8, 12, 4, 4),
        nn.AvgPool2d(3, 2, 1),
        mixed(28, 8, 8, 4, 4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24 * times, 5),
    )


def vgg(times: int = 1) -> nn.Module:
    """Flatten of several pixels for each channel (Simonyan and Zisserman, 2014)."""
    return nn.Sequential(
        nn.Conv2d(3, 8 * times, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8 * times, 12 * times, 3, padding=1),
        nn.Sigmoid(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(12 * 4 * times, 20 * times),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(20 * times, 16 * times),
        nn.Tanh(),
        nn.Linear(16 * times, 5),
    )
