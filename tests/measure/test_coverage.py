"""How often the intervals hold the true value: nominally 95 %, and at least 94 %.

Of paired counts it is computed, as a sum over all counts. Of the bootstrap it is simulated.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from onnxcompress.measure.binomial import clopper_pearson
from onnxcompress.measure.bootstrap import resample_weights
from onnxcompress.measure.intervals import (
    IntervalKind,
    Statistic,
    _jackknife,
    bootstrap_interval,
    paired_interval,
)
from onnxcompress.measure.tail import tail_limits

Floats = NDArray[np.float64]

RATES = (0, 0.001, 0.005, 0.01, 0.05, 0.2)
SIZES = (20, 50, 200, 2000)
LEAST = 0.94


def _likely(samples: int, rate: float) -> range:
    """The counts that all but some 1e-10 of cases have."""
    if rate == 0:
        return range(1)
    return range(
        int(stats.binom.ppf(1e-10, samples, rate)), int(stats.binom.isf(1e-10, samples, rate)) + 1
    )


def _missed(samples: int, lost_rate: float, gained_rate: float) -> tuple[float, float]:
    """How often the true difference lies below and above the interval; computed, not simulated."""
    pairs = [
        pair
        for pair in itertools.product(_likely(samples, lost_rate), _likely(samples, gained_rate))
        if sum(pair) <= samples
    ]
    lost, gained = np.array(pairs).T
    same = samples - lost - gained
    chance = np.exp(
        special.gammaln(samples + 1)
        - special.gammaln([lost + 1, gained + 1, same + 1]).sum(axis=0)
        + special.xlogy(lost, lost_rate)
        + special.xlogy(gained, gained_rate)
        + special.xlogy(same, 1 - lost_rate - gained_rate)
    )
    assert chance.sum() == pytest.approx(1, abs=1e-8)
    found = [paired_interval(*pair, samples) for pair in pairs]
    true = lost_rate - gained_rate
    below = chance[[interval.low > true + 1e-12 for interval in found]].sum()
    above = chance[[interval.high < true - 1e-12 for interval in found]].sum()
    return float(below), float(above)


@pytest.mark.parametrize("samples", SIZES)
def test_paired_counts(samples: int) -> None:
    for lost_rate, gained_rate in itertools.product(RATES, RATES):
        below, above = _missed(samples, lost_rate, gained_rate)
        # Better than asked for: either side misses at most as often as it may.
        assert max(below, above) <= 0.025, (lost_rate, gained_rate)


@pytest.mark.parametrize("samples", [2, 5, 10, 20, 50, 120])
def test_paired_counts_of_any_rates(samples: int) -> None:
    rates = (*np.geomspace(0.02 / samples, 0.97, 14), 0.3, 0.4, 0.5)
    for lost_rate, gained_rate in itertools.product(rates, rates):
        if lost_rate + gained_rate <= 1:
            assert max(_missed(samples, lost_rate, gained_rate)) <= 0.025, (lost_rate, gained_rate)


@pytest.mark.parametrize("samples", SIZES)
def test_lost_alone(samples: int) -> None:
    for rate in (*RATES[1:], 0.5, 0.999):
        counts = np.array(_likely(samples, rate))
        found = [paired_interval(int(count), None, samples) for count in counts]
        held = [interval.low <= rate <= interval.high for interval in found]
        assert stats.binom.pmf(counts[held], samples, rate).sum() >= 0.95 - 1e-8


def _normal(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return rng.normal(size=shape)


def _exponential(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return rng.exponential(size=shape)


def _squared(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return rng.normal(size=shape) ** 2


def _rare(rate: float) -> Callable[[tuple[int, int], np.random.Generator], Floats]:
    return lambda shape, rng: (rng.random(shape) < rate) * rng.exponential(size=shape)


def _coin(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Lost at 6 %, gained at 4 %."""
    return rng.choice([0.0, 1.0, -1.0], size=shape, p=[0.9, 0.06, 0.04])


def _mean(values: Floats) -> Statistic:
    return lambda weights: ((weights.astype(float) @ values).T / weights.sum(axis=1)).T


def _increase(values: Floats) -> Statistic:
    """Of the squared error, where the candidate's errors are mostly the reference's."""
    before, after = np.split(values, 2, axis=1)
    return lambda weights: _mean(after**2)(weights) / _mean((before + 0.3 * after) ** 2)(weights)


def _limits(value: Statistic, samples: int, seed: int) -> tuple[Floats, Floats]:
    """What `bootstrap_interval` gives, for a statistic of many trials at once."""
    resampling = np.random.default_rng(seed)
    drawn = np.concatenate([value(w) for w in resample_weights(samples, 1000, resampling)])
    found = value(np.ones((1, samples), dtype=np.int64))[0]
    sizes, effects = _jackknife(value, samples, found, resampling)
    below, above = tail_limits(effects, sizes, 0.025, (math.inf, math.inf), resampling)
    low = np.minimum(np.quantile(drawn, 0.025, axis=0, method="lower"), found + below)
    high = np.maximum(np.quantile(drawn, 0.975, axis=0, method="higher"), found + above)
    # Where no sample differs the bounds are infinite.
    alike = (effects == 0).all(axis=0)
    return np.where(alike, -np.inf, low), np.where(alike, np.inf, high)


@pytest.mark.parametrize("samples", [50, 200, 450])
@pytest.mark.parametrize("statistic", [_mean, _increase])
def test_many_trials_at_once_are_as_one(
    samples: int, statistic: Callable[[Floats], Statistic]
) -> None:
    values = np.random.default_rng(samples).exponential(size=(samples, 6))
    low, high = _limits(statistic(values), samples, 5)
    for trial in range(len(low)):
        alone = values[:, trial :: len(low)]

        def value(weights: NDArray[np.int64], alone: Floats = alone) -> Floats:
            return statistic(alone)(weights)[:, 0]

        interval = bootstrap_interval(value, samples, seed=5)
        assert interval.kind is IntervalKind.BOOTSTRAP
        assert (interval.low, interval.high) == pytest.approx((low[trial], high[trial]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "samples", "trials"),
    [
        ("normal", 50, 10_000),
        ("exponential", 50, 10_000),
        ("squared", 50, 10_000),
        ("1 in 10", 50, 10_000),
        ("coin", 50, 10_000),
        ("increase", 50, 10_000),
        ("squared", 200, 10_000),
        ("1 in 20", 200, 10_000),
        ("1 in 20", 2000, 2_000),
        ("increase", 2000, 2_000),
    ],
)
def test_bootstrap(name: str, samples: int, trials: int) -> None:
    draw, true = {
        "normal": (_normal, 0.0),
        "exponential": (_exponential, 1.0),
        "squared": (_squared, 1.0),
        "1 in 10": (_rare(0.1), 0.1),
        "1 in 20": (_rare(0.05), 0.05),
        "coin": (_coin, 0.02),
        "increase": (_normal, 1 / 1.09),
    }[name]
    statistic = _increase if name == "increase" else _mean
    held = 0
    # Each seed draws its own resamples, which the trials of a block share.
    for seed in range(10):
        rng = np.random.default_rng(1000 + seed)
        columns = trials // 10 * (2 if name == "increase" else 1)
        value = statistic(draw((samples, columns), rng))
        low, high = _limits(value, samples, seed)
        held += int(((low <= true) & (true <= high)).sum())
    # Not only by the luck of these trials: the rate itself is above, at 99 % confidence.
    assert clopper_pearson(held, trials, 0.99)[0] >= LEAST
