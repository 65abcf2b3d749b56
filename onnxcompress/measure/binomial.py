"""Exact limits of a binomial rate, from the incomplete beta function; no SciPy needed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

# Steps of the continued fraction: it needs about the square root of the larger parameter.
_STEPS: Final = 100_000
_CLOSE: Final = 1e-15
# Stands in for a zero denominator in the continued fraction.
_TINY: Final = 1e-300


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, the chance that a Beta(a, b) is at most x.

    Args:
        x: within 0 and 1.
        a: above 0.
        b: above 0.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # The fraction converges fast on this side of the mean only.
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _continued_fraction(x, a, b) / a
    return 1 - math.exp(log_front) * _continued_fraction(1 - x, b, a) / b


def beta_quantile(chance: float, a: float, b: float) -> float:
    """The x that a Beta(a, b) stays below with this chance, by bisection to the last bit."""
    low, high = 0.0, 1.0
    # An answer near 0 takes more halvings than the 53 bits of one near 1.
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if incomplete_beta(middle, a, b) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@lru_cache(maxsize=1 << 14)
def clopper_pearson(count: int, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a rate (Clopper and Pearson, Biometrika 26, 1934).

    Whatever the rate, each side misses it at most half as often as `confidence` leaves over.

    Args:
        count: how many samples it happened to.
        samples: how many there were, 1 or more.
        confidence: above 0 and below 1.

    Returns:
        The lower and the upper limit, shares of samples.
    """
    tail = (1 - confidence) / 2
    # The closed forms are exact where a count is at its end: 0 of n has 1 - tail ** (1 / n).
    at_end = -math.expm1(math.log(tail) / samples)
    if count == 0:
        return 0.0, at_end
    if count == samples:
        return 1 - at_end, 1.0
    low = beta_quantile(tail, count, samples - count + 1)
    return low, beta_quantile(1 - tail, count + 1, samples - count)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """By the modified method of Lentz (Press et al., Numerical Recipes, section 6.4)."""
    c = 1.0
    d = 1 / _nonzero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _nonzero(1 + even * d)
        c = _nonzero(1 + even / c)
        fraction *= c * d
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _nonzero(1 + odd * d)
        c = _nonzero(1 + odd / c)
        fraction *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return fraction


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
