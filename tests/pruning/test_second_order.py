import numpy as np
import pytest

from onnxcompress.pruning.criteria import Criterion, Facts, importances
from onnxcompress.pruning.masks import Pattern, keep_most, keep_pattern
from onnxcompress.pruning.second_order import (
    Choice,
    in_pattern,
    least_important,
    prune_with_correction,
)
from onnxcompress.quantization.compensation import BATCH, Compensation
from onnxcompress.quantization.rounding import squared_error
from tests.passes.support import Array, normal

DAMPING = 0.01


def _moments(groups: int, features: int, seed: int = 3) -> Array:
    """Of inputs that go together."""
    causes = features // 3 + 1
    rows = normal(groups, 3 * features, causes, seed=seed).astype(np.float64)
    rows = rows @ normal(groups, causes, features, seed=seed + 1) + 1
    rows += normal(groups, 3 * features, features, seed=seed + 2)
    return np.matmul(rows.transpose(0, 2, 1), rows) / rows.shape[1]


def _compensations(moments: Array) -> list[Compensation]:
    return [Compensation.of(each, damping=DAMPING, by_importance=False) for each in moments]


def _damped(moments: Array) -> Array:
    return moments + DAMPING * np.diagonal(moments).mean() * np.eye(len(moments))


def _reference(weights: Array, keep: Array, moments: Array) -> Array:
    """Optimal Brain Surgeon in one order, the inverse recomputed for what is left, in float64."""
    left = weights.astype(np.float64)
    for k in range(weights.shape[1]):
        inverse = np.linalg.inv(_damped(moments)[k:, k:])
        error = left[:, k] * ~keep[:, k]
        left[:, k:] -= np.outer(error, inverse[0] / inverse[0, 0])
    return left * keep


@pytest.mark.parametrize("features", [5, BATCH + 12])
def test_against_a_plain_reference(features: int) -> None:
    weights, moments = normal(2, 3, features, seed=1), _moments(2, features)
    keep = normal(2, 3, features, seed=2) > 0
    found = prune_with_correction(weights, keep, _compensations(moments), None)
    assert ((found != 0) == keep).all()
    for group in range(2):
        expected = _reference(weights[group], keep[group], moments[group])
        np.testing.assert_allclose(found[group], expected, rtol=0.02, atol=0.01)


def test_the_importance_of_a_weight_is_what_losing_it_alone_costs() -> None:
    weights, moments = normal(1, 1, 6, seed=1), _moments(1, 6)
    costs = np.stack([each.costs for each in _compensations(moments)])
    ranked = importances(Criterion.SECOND_ORDER, weights, Facts(costs=costs))
    damped = _damped(moments[0])
    for k in range(6):
        others = np.arange(6) != k
        # The best that all others can do: least squares of what weight k gave.
        change = (
            np.linalg.solve(damped[np.ix_(others, others)], damped[others, k]) * weights[0, 0, k]
        )
        error = np.zeros((1, 1, 6))
        error[0, 0, others], error[0, 0, k] = change, -weights[0, 0, k]
        np.testing.assert_allclose(ranked[0, 0, k], squared_error(error, damped[None]), rtol=1e-3)


@pytest.mark.parametrize(
    ("sparsity", "choice", "share"),
    [
        (0.3, None, 0.45),
        (0.5, None, 0.65),
        (0.3, least_important, 0.3),
        (0.5, least_important, 0.4),
        (0.8, least_important, 0.8),
    ],
)
def test_outputs_change_less_than_when_the_smallest_go(
    sparsity: float, choice: Choice | None, share: float
) -> None:
    features = BATCH + 60
    weights, moments = normal(1, 40, features, seed=1), _moments(1, features)
    compensations = _compensations(moments)
    costs = np.stack([each.costs for each in compensations])
    ranked = importances(Criterion.SECOND_ORDER, weights, Facts(costs=costs))
    (keep,) = keep_most([ranked], sparsity)
    found = prune_with_correction(weights, keep, compensations, choice)
    assert np.count_nonzero(found == 0) == round(sparsity * weights.size)
    (largest,) = keep_most([importances(Criterion.L2, weights)], sparsity)
    plain = squared_error(weights * largest - weights, moments)
    assert squared_error(found - weights, moments) < share * plain


def test_choosing_anew_is_better_than_the_mask_it_came_with() -> None:
    weights, moments = normal(1, 40, 64, seed=1), _moments(1, 64)
    compensations = _compensations(moments)
    costs = np.stack([each.costs for each in compensations])
    (keep,) = keep_most([importances(Criterion.SECOND_ORDER, weights, Facts(costs=costs))], 0.6)
    errors = [
        squared_error(prune_with_correction(weights, keep, compensations, each) - weights, moments)
        for each in (None, least_important)
    ]
    assert errors[1] < errors[0]


def test_patterns_chosen_anew_hold() -> None:
    weights, pattern = normal(1, 8, BATCH + 32, seed=1), Pattern(2, 4)
    keep = keep_pattern(np.square(weights), pattern)
    compensations = _compensations(_moments(1, BATCH + 32))
    found = prune_with_correction(weights, keep, compensations, in_pattern(pattern))
    assert (np.count_nonzero(found.reshape(1, 8, -1, 4), axis=-1) == 2).all()
    assert ((found != 0) != keep).any()


@pytest.mark.parametrize("choice", [None, least_important])
def test_what_is_zero_stays_zero_and_a_second_time_changes_nothing(choice: Choice | None) -> None:
    weights = normal(2, 6, 20, seed=1) * (normal(2, 6, 20) > -1)
    compensations = _compensations(_moments(2, 20))
    (keep,) = keep_most([np.square(weights)], 0.5)
    once = prune_with_correction(weights, keep, compensations, choice)
    assert (once[weights == 0] == 0).all()
    (again,) = keep_most([np.square(once)], 0.5)
    np.testing.assert_array_equal(prune_with_correction(once, again, compensations, choice), once)
