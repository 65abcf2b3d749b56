"""Weights on a grid: exact values, straight-through gradients."""

import numpy as np
import pytest
import torch

from onnxcompress.distillation.grids import hold, straight_through
from onnxcompress.distillation.plan import Grid
from tests.passes.support import normal


def test_values_are_exact_and_gradients_pass() -> None:
    smooth = torch.from_numpy(normal(1000)).requires_grad_()
    exact = torch.sign(smooth.detach())
    found = straight_through(exact, smooth)
    assert torch.equal(found, exact)
    found.sum().backward()
    assert torch.equal(smooth.grad, torch.ones(1000))


@pytest.mark.parametrize("axis", [0, 1])
def test_binary_weights_are_signs_times_the_mean_magnitude(axis) -> None:
    weight = normal(5, 7)
    factor = np.abs(weight.astype(np.float64)).mean(axis=1 - axis, keepdims=True)
    found = hold(torch.from_numpy(weight), Grid.BINARY, axis).numpy()
    np.testing.assert_allclose(found, factor * np.where(weight >= 0, 1, -1), rtol=1e-6)
    assert len(np.unique(np.abs(found))) == weight.shape[axis]


@pytest.mark.parametrize("axis", [0, 1])
def test_ternary_weights_drop_what_is_small(axis) -> None:
    weight = normal(5, 7)
    size = np.abs(weight.astype(np.float64))
    large = size > 0.7 * size.mean(axis=1 - axis, keepdims=True)
    factor = (size * large).sum(axis=1 - axis, keepdims=True) / large.sum(
        axis=1 - axis, keepdims=True
    )
    found = hold(torch.from_numpy(weight), Grid.TERNARY, axis).numpy()
    np.testing.assert_allclose(found, factor * np.sign(weight) * large, rtol=1e-6)


@pytest.mark.parametrize("grid", [Grid.BINARY, Grid.TERNARY])
def test_weights_far_out_get_no_gradient_of_their_sign(grid) -> None:
    """The last weight is more than twice the mean magnitude, which is the factor of signs."""
    weight = torch.tensor([[0.1, 0.2, 0.3, 5.0]], requires_grad=True)
    out = hold(weight, grid, 0)
    coefficients = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    (near,) = torch.autograd.grad((out * coefficients).sum(), weight, retain_graph=True)
    (far,) = torch.autograd.grad((out * coefficients.flip(1)).sum(), weight)
    factor = float(out.detach().abs().max())
    if grid is Grid.BINARY:  # the mean magnitude moves by a quarter of each
        assert near[0].tolist() == pytest.approx([1.25, 0.25, 0.25, 0.25])
        assert far[0].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25])
        assert factor == pytest.approx(1.4)
    else:  # the large one alone makes the factor, which moves with it, and is not far from it
        assert near[0].tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])
        assert far[0].tolist() == pytest.approx([0.0, 0.0, 0.0, 2.0])


def test_no_grid_changes_nothing() -> None:
    weight = torch.from_numpy(normal(3, 4))
    assert hold(weight, Grid.NONE, 0) is weight
