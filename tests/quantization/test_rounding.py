import itertools

import numpy as np

from onnxcompress.quantization.rounding import Bounds, Moments, round_to_grid, squared_error
from tests.passes.support import normal


def _case(groups: int, outputs: int, features: int) -> tuple[np.ndarray, np.ndarray, Moments]:
    rows = normal(groups, 400, features) @ normal(groups, features, features, seed=1) + 2
    moments = Moments.empty(groups, features)
    for part in np.array_split(rows, 3, axis=1):
        moments.add(part)
    weights = normal(groups, outputs, features, seed=2)
    scale = np.abs(weights).max(axis=(0, 2), keepdims=True).astype(np.float64) / 7
    return weights, scale, moments


def _bounds(weights: np.ndarray, scale: np.ndarray) -> Bounds:
    """Within -6..6, where the nearest integer is."""
    most = np.full(weights.shape, 6.0)
    return Bounds(-most, most, np.abs(np.rint(weights / scale)) <= 6)


def test_moments_are_those_of_float64() -> None:
    rows = normal(2, 400, 5)
    moments = Moments.empty(2, 5)
    for part in np.array_split(rows, 3, axis=1):
        moments.add(part)
    wide = rows.astype(np.float64)
    for group in range(2):
        np.testing.assert_allclose(moments.mean[group], wide[group].mean(0), atol=1e-6)
        covariance = np.cov(wide[group].T, bias=True)
        np.testing.assert_allclose(moments.covariance[group], covariance, atol=1e-5)


def test_outputs_come_nearer_than_with_nearest_rounding_on_the_grid() -> None:
    weights, scale, moments = _case(3, 4, 8)
    levels = round_to_grid(weights, scale, moments.second, _bounds(weights, scale), 50)
    nearest = np.rint(weights / scale)
    free = _bounds(weights, scale).free
    assert np.abs(levels[free]).max() <= 6
    np.testing.assert_array_equal(levels[free], np.rint(levels[free]))
    np.testing.assert_array_equal(levels[~free], (weights / scale)[~free])
    nearest[~free] = levels[~free]
    error = squared_error(levels * scale - weights, moments.second)
    assert error < 0.7 * squared_error(nearest * scale - weights, moments.second)


def test_no_single_weight_could_be_better() -> None:
    weights, scale, moments = _case(1, 2, 5)
    variance = np.einsum("gkk->gk", moments.second).mean()
    damped = moments.second + 0.01 * variance * np.eye(5)
    levels = round_to_grid(weights, scale, moments.second, _bounds(weights, scale), 50)
    least = squared_error(levels * scale - weights, damped)
    for o, f, step in itertools.product(range(2), range(5), (-1, 1)):
        if abs(levels[0, o, f]) < 6:
            other = levels.copy()
            other[0, o, f] += step
            assert squared_error(other * scale - weights, damped) >= least


def test_each_sweep_lowers_the_error_and_weights_on_the_grid_stay() -> None:
    weights, scale, moments = _case(1, 16, 12)
    errors = [
        squared_error(
            round_to_grid(weights, scale, moments.second, _bounds(weights, scale), sweeps) * scale
            - weights,
            moments.second,
        )
        for sweeps in (0, 1, 2, 20)
    ]
    assert errors[0] > errors[1] > errors[2] >= errors[3] > 0
    levels = round_to_grid(weights, scale, moments.second, _bounds(weights, scale), 20)
    bounds = _bounds(levels * scale, scale)
    again = round_to_grid(levels * scale, scale, moments.second, bounds, 20)
    np.testing.assert_array_equal(again, levels)


def test_inputs_that_are_always_zero_leave_nearest_rounding() -> None:
    weights, scale, _ = _case(1, 3, 4)
    levels = round_to_grid(
        weights, scale, np.zeros((1, 4, 4)), bounds := _bounds(weights, scale), 5
    )
    np.testing.assert_array_equal(levels[bounds.free], np.rint(weights / scale)[bounds.free])


def test_it_starts_from_the_integers_given() -> None:
    weights, scale, moments = _case(2, 6, 8)
    bounds = _bounds(weights, scale)
    given = np.clip(np.rint(weights / scale) + 1, -6, 6)
    untouched = round_to_grid(weights, scale, moments.second, bounds, 0, start=given)
    np.testing.assert_array_equal(untouched[bounds.free], given[bounds.free])
    swept = round_to_grid(weights, scale, moments.second, bounds, 50, start=given)
    before, after = (
        squared_error(each * scale - weights, moments.second) for each in (untouched, swept)
    )
    assert after < 0.3 * before
