"""Float weights held to a few values while they are trained, with straight-through gradients.

Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013; the
grids are those of `quantization.binary` and `quantization.ternary`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from onnxcompress.distillation.plan import Grid

_THRESHOLD = 0.7
"""Of the mean magnitude: a ternary weight below it is zero; see `ternarize_weights`."""


def straight_through(exact: torch.Tensor, smooth: torch.Tensor) -> torch.Tensor:
    """The values of `exact`, to the last bit, with the gradient of `smooth`."""
    return exact + (smooth - smooth.detach())


def _binary(weight: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    factor = weight.abs().mean(dim=list(axes), keepdim=True)
    signs = torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)
    return factor * straight_through(signs, _near(weight, factor))


def _ternary(weight: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    magnitude = weight.abs()
    limit = _THRESHOLD * magnitude.mean(dim=list(axes), keepdim=True)
    large = magnitude > limit
    count = large.sum(dim=list(axes), keepdim=True).clamp_min(1)
    factor = (magnitude * large).sum(dim=list(axes), keepdim=True) / count
    trits = torch.sign(weight.detach()) * large
    return factor * straight_through(trits, _near(weight, factor))


def _near(weight: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """What gradients see: a weight in units of its factor, cut off at 2."""
    return (weight / factor.detach().clamp_min(1e-30)).clamp(-2, 2)


_GRIDS: Mapping[Grid, Callable[[torch.Tensor, Sequence[int]], torch.Tensor]] = {
    Grid.BINARY: _binary,
    Grid.TERNARY: _ternary,
}


def hold(weight: torch.Tensor, grid: Grid, channel_axis: int) -> torch.Tensor:
    """A weight moved to its grid, one factor for each index along `channel_axis`.

    Weights more than twice the factor away get no gradient.
    """
    axes = [axis for axis in range(weight.ndim) if axis != channel_axis]
    return _GRIDS[grid](weight, axes) if grid in _GRIDS else weight
