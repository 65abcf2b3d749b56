"""Weights in which a mistake shows: no statistic, scale or bias at its default."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randomize(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Draws every parameter and running statistic anew.

    Vectors called weight are scales and slopes from 0.4 to 1.4, running variances lie between 0.5
    and 2, other vectors are normal with a deviation of 0.3, and what has more axes is drawn so that
    activations keep their size from one product to the next. Other buffers (frequencies of
    positions, say) are no weights and stay.
    """
    random = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(tensor.shape, generator=random)

    with torch.no_grad():
        buffers = [each for each in module.named_buffers() if "running_" in each[0]]
        for name, tensor in [*module.named_parameters(), *buffers]:
            last = name.rpartition(".")[2]
            if last == "running_var":
                tensor.copy_(uniform(tensor, 0.5, 2))
            elif tensor.ndim == 1 and last == "weight":
                tensor.copy_(uniform(tensor, 0.4, 1.4))
            elif tensor.squeeze().ndim <= 1:
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=random))
            else:
                fan = tensor[0].numel()
                tensor.copy_((2 / fan) ** 0.5 * torch.randn(tensor.shape, generator=random))
    return module
