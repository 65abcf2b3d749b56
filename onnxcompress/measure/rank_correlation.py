"""Spearman's rank correlation on resampled samples: the correlation of ranks, ties their mean."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, vectors_of
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.rates import finished, lost, mean_of_defined, ratio
from onnxcompress.measure.tally import Sums, Weights
from onnxcompress.measure.weighing import Floats, by_sample, running_sums, sums_between

# Weights that are worked on at once: they stay in the processor's cache.
_BLOCK: Final = 1 << 17


class RankCorrelationTally:
    """Two numbers for each sample and column; gives the mean correlation itself.

    Args:
        values: shape (samples, columns).
        truth: shape (samples, columns).
    """

    def __init__(self, values: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
        self._values = values
        self._truth = truth

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return len(self._values)

    def sums(self, weights: Weights) -> Sums:
        """The mean over columns of each resample, shape (resamples, 1).

        Columns of which the truth is constant are left out; a constant output correlates with
        nothing, 0. Where a resample leaves no column, its value is 0 for candidate and reference
        alike.

        Raises:
            DataError: the truth is constant in all columns.
        """
        if not self._columns:
            raise DataError(
                "what is to be correlated with is the same for all samples; give samples that "
                "differ, or choose another metric"
            )
        by_column = np.empty((len(self._columns), len(weights)))
        step = max(1, _BLOCK // self.samples)
        for begin in range(0, len(weights), step):
            rows = slice(begin, begin + step)
            drawn = by_sample(weights[rows], self.samples)
            for found, (values, truth) in zip(by_column, self._columns, strict=True):
                found[rows] = _correlation(values, truth, drawn)
        return mean_of_defined(by_column, 0.0)[:, None]

    @cached_property
    def _columns(self) -> list[tuple[_Ranking, _Ranking]]:
        pairs = zip(self._values.T, self._truth.T, strict=True)
        return [
            (_Ranking(values), _Ranking(truth))
            for values, truth in pairs
            if (truth != truth[:1]).any()
        ]

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        return cls(
            np.concatenate([tally._values for tally in tallies]),
            np.concatenate([tally._truth for tally in tallies]),
        )


class _Ranking:
    """Samples by rising value, equal ones together.

    Args:
        values: shape (samples,).
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._order: NDArray[np.int64] = np.argsort(values, kind="stable")
        ranked = values[self._order]
        begins = np.append(True, ranked[1:] != ranked[:-1])
        self._begins: NDArray[np.int64] = np.flatnonzero(begins)
        self._tie_of = np.empty(len(values), dtype=np.int64)
        self._tie_of[self._order] = np.cumsum(begins) - 1

    def ranks(self, weights: Floats) -> tuple[Floats, NDArray[np.float64]]:
        """Ranks less their mean, (samples, resamples), and their squares' sum, (resamples,)."""
        ties = sums_between(weights[self._order], self._begins)
        ranks = running_sums(ties)
        middle = ranks[-1] / 2
        ranks -= ties / 2
        ranks -= middle
        return ranks[self._tie_of], _product(ties, ranks, ranks)


def _product(weights: Floats, left: Floats, right: Floats) -> NDArray[np.float64]:
    # Half ranks are multiples of 0.5, so that the products of two are exact in 64 bits.
    found: NDArray[np.float64] = np.einsum("ij,ij,ij->j", weights, left, right, dtype=np.float64)
    return found


def _correlation(values: _Ranking, truth: _Ranking, weights: Floats) -> NDArray[np.float64]:
    """Of each resample; NaN where the truth is constant, 0 where the values are."""
    ours, our_power = values.ranks(weights)
    theirs, their_power = truth.ranks(weights)
    common = _product(weights, ours, theirs)
    # One root of the product, so that a ranking correlates with itself by 1 exactly.
    lengths = np.sqrt(our_power * their_power)
    return ratio(common, lengths, np.where(their_power > 0, 0.0, np.nan))


def spearman_tally(output: Output, truth: Output) -> RankCorrelationTally:
    """For the rank correlation with labels or with the original's outputs; (resamples, 1).

    Args:
        output: numbers, (samples, ...); each element of a sample is a column.
        truth: as many for each sample.

    Raises:
        DataError: they are no numbers, differ in shape from sample to sample or from each other.
    """
    check_counts(output, truth)
    ours, theirs = vectors_of(output, "the outputs"), vectors_of(truth, "labels")
    if ours.shape != theirs.shape:
        raise DataError(
            f"there are {ours.shape[1]} outputs and {theirs.shape[1]} labels for each sample, as "
            f"many are needed; choose another output or metric"
        )
    return RankCorrelationTally(ours, theirs)


spearman_value: Final = finished
spearman_drop: Final = lost(finished)
