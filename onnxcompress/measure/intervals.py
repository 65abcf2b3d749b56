"""Intervals that hold: of changed answers by the binomial, of anything else by the bootstrap.

Their coverage is computed or simulated in `tests/measure/test_coverage.py`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.measure.binomial import clopper_pearson
from onnxcompress.measure.bootstrap import CONFIDENCE, RESAMPLES, resample_weights
from onnxcompress.measure.tail import tail_limits

# Below this a bootstrap cannot be trusted to hold its level.
ENOUGH_SAMPLES: Final = 50
# More resamples than this without a value, and those with one are no fair choice of them.
MOST_UNDEFINED: Final = 0.05
# The jackknife leaves out a group at a time, so a costly statistic is not called for each sample.
GROUPS: Final = 200

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]


class IntervalKind(enum.Enum):
    """How an interval was found, which says how far to trust it."""

    EXACT = "exact"
    BOOTSTRAP = "bootstrap"
    APPROXIMATE = "approximate"


@dataclass(frozen=True)
class Interval:
    """Where the true value lies, as far as the samples tell.

    Attributes:
        low: the lower bound, in the statistic's own unit; may be minus infinity.
        high: the upper bound; may be infinity.
        kind: `APPROXIMATE` where the level of confidence may not be held.
    """

    low: float
    high: float
    kind: IntervalKind


def paired_interval(
    lost: int, gained: int | None, samples: int, *, confidence: float = CONFIDENCE
) -> Interval:
    """Bounds of (lost - gained) / samples, where the same samples were answered twice.

    The limits of the two rates are those of Clopper and Pearson (1934). Where both can happen they
    are joined into limits of the difference as in Newcombe's method 10 (Statistics in Medicine 17,
    1998, 2635-2650), which allows for the correlation of the two counts; his own limits, Wilson's,
    are too narrow for rates near 0. A single rate's limits are exact by proof. Those of the
    difference are so by computing: summed over all counts, each side of a 95 % interval misses in
    2.5 % of cases at most, at every pair of rates tried, from 2 to 2000 samples.

    Args:
        lost: samples whose answer turned wrong.
        gained: samples whose answer turned right; None where nothing can be gained, as for
            agreement with the original, which is narrower than 0 gained.
        samples: all samples, changed or not.
        confidence: two-sided, above 0 and below 1.

    Returns:
        Shares of samples; positive is a loss.

    Raises:
        ValueError: the counts are negative or more than the samples, there are no samples, or the
            confidence is out of range.
    """
    _check(samples, confidence)
    if min(lost, gained or 0) < 0 or lost + (gained or 0) > samples:
        raise ValueError(f"{lost} lost and {gained} gained are no counts of {samples} samples")
    lost_low, lost_high = clopper_pearson(lost, samples, confidence)
    if gained is None:
        return Interval(lost_low, lost_high, IntervalKind.EXACT)
    gained_low, gained_high = clopper_pearson(gained, samples, confidence)
    loss, gain = lost / samples, gained / samples
    # A sample lost is not gained, so the two counts oppose each other and their difference varies
    # more than that of independent ones: without this, half the answers changed covers only 86 %.
    # Two more of each, since counts at 0 do not show that they oppose each other.
    more_lost, more_gained = lost + 2, gained + 2
    less_lost, less_gained = samples - lost + 2, samples - gained + 2
    opposed = math.sqrt(more_lost * more_gained / (less_lost * less_gained))
    below = _joined(loss - lost_low, gained_high - gain, opposed)
    above = _joined(lost_high - loss, gain - gained_low, opposed)
    low, high = max(-1.0, loss - gain - below), min(1.0, loss - gain + above)
    return Interval(low, high, IntervalKind.EXACT)


def samples_needed(budget: float, *, confidence: float = CONFIDENCE) -> int:
    """The fewest samples at which not one changed answer proves that a budget is kept.

    With fewer no result can prove it, so the data are too few to tell the budget apart from 0.

    Args:
        budget: the largest drop allowed, a share of samples.
        confidence: of the interval, two-sided, above 0 and below 1.

    Raises:
        ValueError: the budget is not above 0, which no number of samples proves, or the confidence
            is out of range.
    """
    _check(1, confidence)
    if not budget > 0:
        raise ValueError(f"no number of samples proves a budget of {budget}")
    if budget >= 1:
        return 1
    samples = max(1, math.ceil(math.log((1 - confidence) / 2) / math.log1p(-budget)))
    # The quotient may be off by its rounding.
    while samples > 1 and clopper_pearson(0, samples - 1, confidence)[1] <= budget:
        samples -= 1
    while clopper_pearson(0, samples, confidence)[1] > budget:
        samples += 1
    return samples


def bootstrap_interval(
    value: Statistic,
    samples: int,
    *,
    seed: int,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    bound: float | None = None,
) -> Interval:
    """Bounds of any statistic of weighted samples, of a drop as a rule.

    The wider, on each side, of two intervals. The percentiles of the resampled values (Efron 1979)
    follow a statistic that is curved, but cover skewed or rare losses too seldom: a large loss that
    few samples show is too easily not drawn. So the second asks what samples like those seen and
    one more, as bad as the worst, would give; see `tail_limits`. It needs what each sample does to
    the statistic, which the jackknife tells.

    `value` sees `resamples` rows, one row of ones and at most `GROUPS` rows that each leave out a
    group of samples, drawn at random where there are more samples than groups.

    Args:
        value: takes how often each sample was drawn, shape (some rows, samples), and gives one
            number for each row: infinite is fine, NaN where it is not defined.
        samples: how many there are.
        seed: of the resampling.
        confidence: two-sided, above 0 and below 1.
        resamples: how many.
        bound: the most that one sample can lose or gain, 1 for one counted right or wrong. Limits
            how bad one more sample could be, and stands in for it where all samples are alike.

    Returns:
        In the statistic's unit. `APPROXIMATE` below `ENOUGH_SAMPLES` samples, where more than
        `MOST_UNDEFINED` of the values are not defined, where leaving samples out gives no finite
        value, and where all samples are alike and there is no `bound`: then nothing is known of the
        samples not seen, and the bounds are infinite.

    Raises:
        ValueError: there are no samples or no resamples, the confidence is out of range, the bound
            is negative, or the statistic is not defined for the samples as they are.
    """
    _check(samples, confidence)
    if resamples < 1 or (bound is not None and not bound >= 0):
        raise ValueError(f"{resamples} resamples and a bound of {bound} give no interval")
    rng = np.random.default_rng(seed)
    blocks = [value(weights) for weights in resample_weights(samples, resamples, rng)]
    found = float(value(np.ones((1, samples), dtype=np.int64))[0])
    if math.isnan(found):
        raise ValueError("the statistic is not defined for the samples as they are")
    drawn = np.concatenate(blocks)
    defined = drawn[~np.isnan(drawn)]
    sizes, effects = _jackknife(value, samples, found, rng)
    known = np.isfinite(effects)
    held = (
        samples >= ENOUGH_SAMPLES
        and len(defined) >= (1 - MOST_UNDEFINED) * resamples
        and bool(known.all())
    )
    kind = IntervalKind.BOOTSTRAP if held else IntervalKind.APPROXIMATE
    tail = (1 - confidence) / 2
    if math.isfinite(found) and _alike(found, defined, effects[known]):
        if bound is None:
            return Interval(-math.inf, math.inf, IntervalKind.APPROXIMATE)
        # The rule for 0 of n: this many samples may be unlike all those seen.
        unlike = clopper_pearson(0, samples, confidence)[1]
        most = max(bound, abs(found))
        low, high = found - unlike * (most + found), found + unlike * (most - found)
        return Interval(low, high, kind)
    low = high = found
    if len(defined):
        # Order statistics: interpolating between two infinities would give NaN.
        low = min(low, float(np.quantile(defined, tail, method="lower")))
        high = max(high, float(np.quantile(defined, 1 - tail, method="higher")))
    if math.isfinite(found) and known.any():
        room = (math.inf, math.inf) if bound is None else (bound + found, bound - found)
        below, above = tail_limits(effects[known], sizes[known], tail, room, rng)
        low, high = min(low, found + float(below)), max(high, found + float(above))
    return Interval(low, high, kind)


def _check(samples: int, confidence: float) -> None:
    if samples < 1:
        raise ValueError(f"an interval needs a sample, and there are {samples}")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, and this is {confidence}")


def _joined(first: float, second: float, opposed: float) -> float:
    """The reach of a difference, from that of each part and how far they oppose each other."""
    return math.sqrt(first**2 + second**2 + 2 * opposed * first * second)


def _jackknife(
    value: Statistic, samples: int, found: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What each group of samples does to the statistic.

    Returns:
        The size of each group, and how far its samples lie from the rest on average: for a mean,
        their own mean less the mean of all.
    """
    groups = min(samples, GROUPS)
    if groups == 1:
        return np.ones(1, dtype=np.int64), np.zeros(1)
    # By chance: samples often come sorted by class, and such groups would each be of one kind.
    group_of = rng.permutation(samples) % groups
    sizes = np.bincount(group_of, minlength=groups)
    without = value((group_of[None, :] != np.arange(groups)[:, None]).astype(np.int64))
    with np.errstate(invalid="ignore"):
        effects = ((found - without).T * ((samples - sizes) / sizes)).T
    return sizes, effects


def _alike(found: float, drawn: NDArray[np.float64], effects: NDArray[np.float64]) -> bool:
    """Whether no sample changes the statistic, but for rounding."""
    near = 1e-9 * abs(found)
    with np.errstate(invalid="ignore"):
        return bool((np.abs(effects) <= near).all() and (np.abs(drawn - found) <= near).all())
