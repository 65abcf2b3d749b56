"""ResNet-20 (He et al. 2016) as a torch module. Imports torch: import it from inside a builder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

CLASSES = 10
_WIDTHS = (16, 32, 64)
_BLOCKS = 3


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


class Shortcut(nn.Module):
    """Option A: every second pixel, and as many channels of zeros as are missing, on both sides."""

    def __init__(self, missing: int) -> None:
        super().__init__()
        self.missing = missing

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """float32 (batch, channels, height, width) -> half the size, more channels."""
        sides = (self.missing // 2, self.missing // 2)
        return functional.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, *sides), "constant", 0)


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        narrows = inputs != outputs
        self.conv1 = _convolution(inputs, outputs, stride=2 if narrows else 1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _convolution(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = Shortcut(outputs - inputs) if narrows else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """float32 (batch, channels, height, width)."""
        inner = functional.relu(self.bn1(self.conv1(maps)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps))


class ResNet20(nn.Module):
    """float32 (batch, 3, 32, 32) -> (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(3, _WIDTHS[0])
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        inputs = (_WIDTHS[0], *_WIDTHS[:-1])
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(first, width), *(Block(width, width) for _ in range(_BLOCKS - 1)))
            for first, width in zip(inputs, _WIDTHS, strict=True)
        )
        self.linear = nn.Linear(_WIDTHS[-1], CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The class scores of each image."""
        maps = functional.relu(self.bn1(self.conv1(image)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        pooled = functional.avg_pool2d(maps, maps.size(3))
        logits: torch.Tensor = self.linear(pooled.view(pooled.size(0), -1))
        return logits
