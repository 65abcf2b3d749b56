"""Image to image, and norms of other kinds: U-Net, super-resolution, PReLU, Group and Instance."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .residual import conv_norm


def _double(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(inner, outer), nn.ReLU(), conv_norm(outer, outer), nn.ReLU())


class UNet(nn.Module):
    """Skips by Concat (Ronneberger et al., 2015); one step up is learned, one resized."""

    def __init__(self, times: int = 1):
        super().__init__()
        self.outer = _double(3, 8 * times)
        self.middle = _double(8 * times, 12 * times)
        self.inner = _double(12 * times, 16 * times)
        self.learned_up = nn.ConvTranspose2d(16 * times, 12 * times, 2, 2)
        self.after_learned = _double(24 * times, 12 * times)
        self.resized = nn.Conv2d(12 * times, 8 * times, 1)
        self.after_resized = _double(16 * times, 8 * times)
        self.head = nn.Conv2d(8 * times, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        outer = self.outer(image)
        middle = self.middle(F.max_pool2d(outer, 2))
        inner = self.inner(F.max_pool2d(middle, 2))
        x = self.after_learned(torch.cat((self.learned_up(inner), middle), 1))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(self.after_resized(torch.cat((outer, self.resized(x)), 1)))


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.second(F.leaky_relu(self.first(x), 0.1))


def super_resolution(times: int = 1) -> nn.Module:
    """EDSR's way up: four times the channels, then PixelShuffle (Lim et al., 2017)."""
    return nn.Sequential(
        nn.Conv2d(3, 8 * times, 3, padding=1),
        _Residual(8 * times),
        nn.Conv2d(8 * times, 32 * times, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Conv2d(8 * times, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )


def prelu() -> nn.Module:
    """A slope for each channel, and one for all."""
    return nn.Sequential(
        conv_norm(3, 8),
        nn.PReLU(8),
        conv_norm(8, 8, groups=8),
        nn.PReLU(8),
        conv_norm(8, 12, 1, stride=2),
        nn.PReLU(),
        nn.Conv2d(12, 12, 8),
        nn.Flatten(),
        nn.Linear(12, 16),
        nn.PReLU(16),
        nn.Linear(16, 5),
    )


def other_norms() -> nn.Module:
    """GroupNorm, of one group too, and InstanceNorm."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.SiLU(),
        nn.Conv2d(16, 12, 3, padding=1),
        nn.InstanceNorm2d(12, affine=True),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.GroupNorm(1, 12),
        nn.ELU(),
        nn.Conv2d(12, 8, 3, stride=2),
        nn.Mish(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def tracked_instance_norm() -> nn.Module:
    """InstanceNorm with running statistics, which is a BatchNorm once trained."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.InstanceNorm2d(8, track_running_stats=True),
        nn.Hardtanh(),
        nn.Conv2d(8, 4, 1),
    )
