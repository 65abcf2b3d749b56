import numpy as np
import pytest

from onnxcompress.quantization.compensation import Compensation, SingularMomentsError
from onnxcompress.quantization.gptq import gptq_levels
from onnxcompress.quantization.rounding import squared_error
from tests.passes.support import Array, normal


def _moments(groups: int, features: int) -> Array:
    """Of inputs that go together."""
    rows = normal(groups, 3 * features, features, seed=3).astype(np.float64)
    rows = rows @ normal(groups, features, features, seed=4) + 1
    return np.matmul(rows.transpose(0, 2, 1), rows) / rows.shape[1]


def _compensations(moments: Array, *, by_importance: bool = True) -> list[Compensation]:
    return [Compensation.of(each, damping=0.01, by_importance=by_importance) for each in moments]


def _reference(
    weights: Array, scale: Array, zero: Array, moments: Array, limits: tuple[int, int], order: Array
) -> Array:
    """One output after another, the inverse recomputed for what is left: the idea, in float64."""
    levels = np.zeros(weights.shape)
    damped = moments + 0.01 * np.diagonal(moments).mean() * np.eye(len(moments))
    for row in range(len(weights)):
        left = weights[row].astype(np.float64)
        for position, k in enumerate(order):
            free = order[position:]
            inverse = np.linalg.inv(damped[np.ix_(free, free)])
            levels[row, k] = np.clip(np.rint(left[k] / scale[row, k]) + zero[row, k], *limits)
            error = left[k] - (levels[row, k] - zero[row, k]) * scale[row, k]
            left[free] -= error / inverse[0, 0] * inverse[0]
    return levels


@pytest.mark.parametrize("by_importance", [False, True])
@pytest.mark.parametrize("limits", [(-8, 7), (0, 3)])
@pytest.mark.parametrize("features", [5, 140])
def test_against_a_plain_reference(
    limits: tuple[int, int], by_importance: bool, features: int
) -> None:
    weights, moments = normal(2, 3, features, seed=1), _moments(2, features)
    scale = np.abs(normal(2, 3, features, seed=2)) / 2 + np.float32(0.2)
    zero = np.full(weights.shape, np.float32(limits[0] + limits[1]) // 2, np.float32)
    levels = gptq_levels(
        weights, scale, zero, _compensations(moments, by_importance=by_importance), limits
    )
    assert levels.min() >= limits[0] and levels.max() <= limits[1]
    for group in range(2):
        order = np.arange(features)
        if by_importance:
            order = np.argsort(-np.diagonal(moments[group]), kind="stable")
        expected = _reference(
            weights[group], scale[group], zero[group], moments[group], limits, order
        )
        # A value halfway between two integers may fall either way, and all after it with it.
        assert (levels[group] == expected).mean() > 0.98


def test_many_outputs_are_rounded_as_few() -> None:
    weights, moments = normal(1, 1100, 6), _compensations(_moments(1, 6))
    scale, zero = np.full((1, 1, 1), 0.3, np.float32), np.zeros((1, 1, 1), np.float32)
    levels = gptq_levels(weights, scale, zero, moments, (-8, 7))
    for row in (0, 1023, 1024, 1099):
        alone = gptq_levels(weights[:, row : row + 1], scale, zero, moments, (-8, 7))
        np.testing.assert_array_equal(levels[:, row], alone[:, 0])


@pytest.mark.parametrize("by_importance", [False, True])
def test_outputs_come_nearer_than_with_nearest_rounding(by_importance: bool) -> None:
    weights, moments = normal(3, 40, 64), _moments(3, 64)
    scale, zero = np.full((1, 1, 1), 0.4, np.float32), np.zeros((1, 1, 1), np.float32)
    levels = gptq_levels(
        weights, scale, zero, _compensations(moments, by_importance=by_importance), (-8, 7)
    )
    nearest = np.clip(np.rint(weights / scale), -8, 7)
    error = squared_error(levels * scale - weights, moments)
    assert error < 0.5 * squared_error(nearest * scale - weights, moments)


def test_inputs_that_know_nothing_of_each_other_leave_nearest_rounding() -> None:
    weights = normal(1, 8, 12)
    scale, zero = np.full((1, 1, 1), 0.3, np.float32), np.full((1, 1, 1), 8, np.float32)
    moments = _compensations(np.diag(np.arange(12.0))[None])
    levels = gptq_levels(weights, scale, zero, moments, (0, 15))
    np.testing.assert_array_equal(levels, np.clip(np.rint(weights / scale) + 8, 0, 15))


@pytest.mark.parametrize("features", [3, 64, 200])
def test_costs_are_those_of_the_inverse(features: int) -> None:
    (moments,) = _moments(1, features)
    for by_importance in (False, True):
        (each,) = _compensations(moments[None], by_importance=by_importance)
        damped = moments + 0.01 * np.diagonal(moments).mean() * np.eye(features)
        inverse = np.linalg.inv(damped)
        np.testing.assert_allclose(each.costs, 1 / np.diagonal(inverse), rtol=1e-4)
        ordered = inverse[np.ix_(each.order, each.order)]
        wide = each.factor.astype(np.float64)
        np.testing.assert_allclose(wide.T @ wide, ordered, rtol=1e-3, atol=1e-5 * ordered.max())
        assert not np.tril(each.factor, -1).any()


@pytest.mark.parametrize("moments", [np.zeros((1, 3, 3)), np.full((1, 3, 3), np.nan)])
def test_moments_without_an_inverse(moments: Array) -> None:
    with pytest.raises(SingularMomentsError, match="zero, or not finite"):
        _compensations(moments)


def test_moments_that_no_data_could_have() -> None:
    with pytest.raises(SingularMomentsError, match="no inverse"):
        _compensations(np.array([[[1.0, 5.0], [5.0, 1.0]]]))
