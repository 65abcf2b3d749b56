import math

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxcompress.measure.intervals import (
    GROUPS,
    Interval,
    IntervalKind,
    Statistic,
    bootstrap_interval,
    paired_interval,
    samples_needed,
)

RNG = np.random.default_rng(3)


def _mean(values: NDArray[np.float64]) -> Statistic:
    return lambda weights: weights @ values / weights.sum(axis=1)


def test_nothing_changed_is_not_nothing_known() -> None:
    limit = 1 - 0.025 ** (1 / 169)
    interval = paired_interval(0, 0, 169)
    assert interval.kind is IntervalKind.EXACT
    assert (interval.low, interval.high) == pytest.approx((-limit, limit))
    alone = paired_interval(0, None, 169)
    assert (alone.low, alone.high) == pytest.approx((0, limit))


def test_paired_counts_mirror() -> None:
    one, other = paired_interval(9, 4, 100), paired_interval(4, 9, 100)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.low < 0.05 < one.high


def test_as_many_gained_is_wider_than_none() -> None:
    changed, same = paired_interval(20, 20, 1000), paired_interval(0, 0, 1000)
    assert changed.high > 2 * same.high


@pytest.mark.parametrize(("lost", "gained"), [(20, 0), (0, 20), (10, 10), (19, 1)])
def test_every_sample_changed(lost: int, gained: int) -> None:
    interval = paired_interval(lost, gained, 20)
    assert -1 <= interval.low <= (lost - gained) / 20 <= interval.high <= 1


def test_more_confidence_is_wider() -> None:
    usual, sure = paired_interval(5, 2, 200), paired_interval(5, 2, 200, confidence=0.99)
    assert sure.low < usual.low
    assert usual.high < sure.high


@pytest.mark.parametrize(
    ("lost", "gained", "samples"), [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (6, None, 5), (0, 0, 0)]
)
def test_counts_that_cannot_be(lost: int, gained: int | None, samples: int) -> None:
    with pytest.raises(ValueError, match="sample"):
        paired_interval(lost, gained, samples)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_confidence_out_of_range(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        paired_interval(0, 0, 5, confidence=confidence)


@pytest.mark.parametrize("budget", [1e-4, 0.001, 0.005, 0.01, 0.05, 0.3, 0.975, 0.99, 1.0, 2.0])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_samples_needed_is_the_fewest(budget: float, confidence: float) -> None:
    samples = samples_needed(budget, confidence=confidence)
    assert paired_interval(0, 0, samples, confidence=confidence).high <= budget
    if samples > 1:
        assert paired_interval(0, 0, samples - 1, confidence=confidence).high > budget


def test_no_samples_prove_no_budget() -> None:
    assert samples_needed(0.01) == 368
    for budget in (0.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="budget"):
            samples_needed(budget)


def test_many_even_samples_get_the_normal_interval() -> None:
    values = RNG.normal(size=2000)
    interval = bootstrap_interval(_mean(values), 2000, seed=0)
    assert interval.kind is IntervalKind.BOOTSTRAP
    reach = 1.96 * values.std() / math.sqrt(2000)
    assert reach < interval.high - values.mean() < 1.25 * reach
    assert reach < values.mean() - interval.low < 1.25 * reach


def test_a_seed_gives_one_interval() -> None:
    values = RNG.exponential(size=300)
    first, again, other = (bootstrap_interval(_mean(values), 300, seed=s) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("ones", [1, 3, 10, 100])
def test_right_or_wrong_gets_at_least_the_exact_limits(ones: int) -> None:
    values = np.zeros(169)
    values[:ones] = 1
    interval = bootstrap_interval(_mean(values), 169, seed=0, bound=1)
    exact = paired_interval(ones, None, 169)
    assert interval.high == pytest.approx(exact.high, rel=0.06)
    assert interval.low < exact.low * 1.06


def test_samples_all_alike_follow_the_rule_for_none_of_n() -> None:
    limit = 1 - 0.025 ** (1 / 169)
    interval = bootstrap_interval(_mean(np.zeros(169)), 169, seed=0, bound=2)
    assert (interval.low, interval.high) == pytest.approx((-2 * limit, 2 * limit))
    assert interval.kind is IntervalKind.BOOTSTRAP
    shifted = bootstrap_interval(_mean(np.full(169, 0.1)), 169, seed=0, bound=1)
    assert (shifted.low, shifted.high) == pytest.approx((0.1 - 1.1 * limit, 0.1 + 0.9 * limit))


@pytest.mark.parametrize("samples", [1, 60])
def test_samples_all_alike_tell_nothing_without_a_bound(samples: int) -> None:
    interval = bootstrap_interval(_mean(np.zeros(samples)), samples, seed=0)
    assert interval == Interval(-math.inf, math.inf, IntervalKind.APPROXIMATE)


def test_one_sample_of_many_that_differs_is_not_all() -> None:
    values = np.zeros(200)
    values[7] = 0.01
    interval = bootstrap_interval(_mean(values), 200, seed=0)
    # Clopper and Pearson's limit is 2.75 % of samples, and the next may be larger.
    assert interval.high > 0.0275 * 0.01
    bounded = bootstrap_interval(_mean(values), 200, seed=0, bound=0.01)
    assert bounded.high == pytest.approx(0.0275 * 0.01, rel=0.06)


@pytest.mark.parametrize(
    ("samples", "kind"), [(49, IntervalKind.APPROXIMATE), (50, IntervalKind.BOOTSTRAP)]
)
def test_few_samples_are_approximate(samples: int, kind: IntervalKind) -> None:
    assert bootstrap_interval(_mean(RNG.normal(size=samples)), samples, seed=0).kind is kind


def test_resamples_without_a_value() -> None:
    values = RNG.normal(size=100)

    def undefined_without_the_first(few: int) -> Statistic:
        def value(weights: NDArray[np.int64]) -> NDArray[np.float64]:
            found = _mean(values)(weights)
            found[weights[:, :few].sum(axis=1) == 0] = math.nan
            return found

        return value

    # A resample misses one sample in 37 % of cases, and five in less than 1 %.
    often = bootstrap_interval(undefined_without_the_first(1), 100, seed=0)
    seldom = bootstrap_interval(undefined_without_the_first(5), 100, seed=0)
    assert often.kind is IntervalKind.APPROXIMATE
    assert seldom.kind is IntervalKind.BOOTSTRAP
    for interval in (often, seldom):
        assert interval.low < values.mean() < interval.high


def test_infinite_values() -> None:
    errors = np.zeros(100)
    errors[0] = 1

    def increase(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        before = weights @ errors
        return np.where(before > 0, 1 / np.maximum(before, 1), math.inf)

    interval = bootstrap_interval(increase, 100, seed=0)
    assert interval.high == math.inf
    assert 0 < interval.low <= 1
    assert interval.kind is IntervalKind.APPROXIMATE
    always = bootstrap_interval(lambda w: np.full(len(w), math.inf), 100, seed=0)
    assert always == Interval(math.inf, math.inf, IntervalKind.APPROXIMATE)


def test_undefined_from_the_start() -> None:
    with pytest.raises(ValueError, match="not defined"):
        bootstrap_interval(lambda w: np.full(len(w), math.nan), 100, seed=0)


def test_arguments_that_give_no_interval() -> None:
    value = _mean(np.ones(5))
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_interval(value, 5, seed=0, resamples=0)
    with pytest.raises(ValueError, match="bound"):
        bootstrap_interval(value, 5, seed=0, bound=-1)
    with pytest.raises(ValueError, match="sample"):
        bootstrap_interval(value, 0, seed=0)


def test_a_costly_statistic_is_called_for_few_rows() -> None:
    values, rows = RNG.normal(size=5000), 0

    def counted(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        nonlocal rows
        rows += len(weights)
        assert (weights.sum(axis=1) > 0).all()
        return _mean(values)(weights)

    bootstrap_interval(counted, 5000, seed=0, resamples=100)
    assert rows == 100 + 1 + GROUPS
