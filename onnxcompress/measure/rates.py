"""What is made of sums: quotients, means, and what a drop is for a metric where more is better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from onnxcompress.measure.tally import Sums

Value = Callable[[Sums], NDArray[np.float64]]
Drop = Callable[[Sums, Sums], NDArray[np.float64]]


def ratio(
    over: NDArray[np.float64], under: NDArray[np.float64], empty: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """A quotient; where `under` is zero, `empty`."""
    out = np.broadcast_to(np.asarray(empty, dtype=np.float64), over.shape).copy()
    np.divide(over, under, out=out, where=under != 0)
    return out


def mean(sums: Sums) -> NDArray[np.float64]:
    """The first sum over the second; 0 where there is nothing. (resamples, 2) -> (resamples,)."""
    return ratio(sums[..., 0], sums[..., 1], 0.0)


def error_rate(sums: Sums) -> NDArray[np.float64]:
    """As `mean`, but errors among nothing are infinitely many. (resamples, 2) -> (resamples,)."""
    return ratio(sums[..., 0], sums[..., 1], np.where(sums[..., 0] > 0, np.inf, 0.0))


def finished(sums: Sums) -> NDArray[np.float64]:
    """For tallies that give the value itself. (resamples, 1) -> (resamples,)."""
    return sums[..., 0]


def lost(value: Value) -> Drop:
    """The drop where more is better: the reference's value minus the candidate's."""
    return lambda candidate, reference: value(reference) - value(candidate)


def gained(value: Value) -> Drop:
    """The drop where less is better: the candidate's value minus the reference's."""
    return lambda candidate, reference: value(candidate) - value(reference)


def mean_of_defined(values: NDArray[np.float64], empty: float) -> NDArray[np.float64]:
    """The mean over the first axis of what is not NaN; where all is, `empty`."""
    defined = np.logical_not(np.isnan(values))
    return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0), empty)
