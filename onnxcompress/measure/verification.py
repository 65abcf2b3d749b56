"""Equal error rate of verification: may two vectors be told to be of one label by their cosine?

All pairs of two samples are judged, a pair as often as the product of its samples' multiplicities;
a sample is never paired with itself. There are millions of pairs, but few matter: those near the
threshold where the error rates cross. For all resamples at once, what lies above a band around it
is counted by a matrix product, and only the pairs within are gone through in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, vectors_of, whole_numbers
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.ranking import Runs, equal_error
from onnxcompress.measure.rates import ratio
from onnxcompress.measure.tally import Sums, Weights
from onnxcompress.measure.weighing import as_floats

# Weights of pairs that are worked on at once; fewer resamples than these make short rows, which are
# slow.
_BLOCK: Final = 1 << 21
_LEAST_RESAMPLES: Final = 64
# How far the band reaches beyond what the resamples' error rates differ at the threshold of all.
_MARGIN: Final = 1.25
_LEAST_BAND: Final = 0.002
# What a resample without pairs of one of both kinds is worth, for candidate and reference alike.
_CHANCE: Final = 0.5


class VerificationTally:
    """Vectors with labels; gives the equal error rate itself.

    Args:
        vectors: shape (samples, elements).
        labels: shape (samples,); samples with labels below 0 are in no pair.
    """

    def __init__(self, vectors: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        self._vectors = vectors
        self._labels = labels

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return len(self._labels)

    def sums(self, weights: Weights) -> Sums:
        """The rate of each resample, shape (resamples, 1).

        Raises:
            DataError: no two samples have one label, or no two have different ones.
        """
        drawn = weights[:, self._labels >= 0]
        totals = _totals(drawn, self._codes)
        if not _totals(np.ones_like(drawn[:1]), self._codes).all():
            raise DataError(
                "equal error rates need samples of the same label and of different ones; give "
                "labels of which some repeat, or choose another metric"
            )
        high, low, ahead = self._band(drawn, totals)
        similarity, same = self._pairs
        first, second = np.nonzero((similarity >= low) & (similarity < high))
        runs = Runs(similarity[first, second].astype(np.float64), same[first, second])
        first, second = first[runs.order], second[runs.order]
        rates = np.empty(len(weights))
        step = max(_LEAST_RESAMPLES, _BLOCK // max(1, len(first)))
        for begin in range(0, len(weights), step):
            rows = slice(begin, begin + step)
            by_one = as_floats(drawn[rows].T, totals.sum(axis=0).max())
            steps = runs.sums(by_one[first] * by_one[second])
            rates[rows] = equal_error(*steps, ahead=ahead[:, rows], totals=totals[:, rows])
        return np.nan_to_num(rates, nan=_CHANCE)[:, None]

    def _band(
        self, drawn: Weights, totals: NDArray[np.float64]
    ) -> tuple[float, float, NDArray[np.float64]]:
        """Cosines between which the rates of all resamples cross, and what is above the higher.

        Returns:
            The higher and the lower one, and positive and negative pairs at the higher one or
            above, shape (2, resamples).
        """
        at_middle = self._at_least(drawn, self._cosine_at(0.0))
        apart = ratio(_crossed(at_middle, totals), totals[0] * totals[1], 0.0)
        width = _MARGIN * float(np.abs(apart).max()) + _LEAST_BAND
        while True:
            high, low = self._cosine_at(-width), self._cosine_at(width)
            above = self._at_least(drawn, high)
            enough = _crossed(above, totals) <= 0, _crossed(self._at_least(drawn, low), totals) >= 0
            # Resamples without any pair of one kind have no crossing.
            if (enough[0] & enough[1] | (totals.min(axis=0) == 0)).all():
                return high, low, above
            width *= 2

    def _cosine_at(self, difference: float) -> float:
        """The cosine at which false acceptance less false rejection of all samples is as given."""
        cosines, differences = self._curve
        if difference < differences[0]:
            return np.inf
        if difference > differences[-1]:
            return -np.inf
        place = int(np.searchsorted(differences, difference, side="left"))
        return float(cosines[place])

    def _at_least(self, drawn: Weights, cosine: float) -> NDArray[np.float64]:
        """Positive and negative pairs of this cosine or above, shape (2, resamples)."""
        similarity, same = self._pairs
        chosen = similarity >= cosine
        counts = np.empty((2, len(drawn)))
        left = as_floats(drawn, float(drawn.sum(axis=1).max()))
        for count, kind in zip(counts, (same, ~same), strict=True):
            products = left @ (chosen & kind).astype(left.dtype)
            count[:] = np.einsum("ij,ij->i", products, left, dtype=np.float64)
        return counts

    @cached_property
    def _codes(self) -> NDArray[np.int64]:
        """Labels as numbers from 0, of the samples that have any."""
        codes: NDArray[np.int64] = np.unique(self._labels[self._labels >= 0], return_inverse=True)[
            1
        ]
        return codes

    @cached_property
    def _pairs(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Cosines (NaN but for the first sample before the second), and are labels equal?"""
        vectors = self._vectors[self._labels >= 0]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        similarity = (units @ units.T).astype(np.float32)
        similarity[np.tri(len(units), dtype=bool)] = np.nan
        return similarity, self._codes[:, None] == self._codes

    @cached_property
    def _curve(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Cosines, falling, and false acceptance less false rejection at each, all samples once."""
        similarity, same = self._pairs
        upper = np.triu_indices(len(similarity), 1)
        order = np.argsort(-similarity[upper], kind="stable")
        positive = same[upper][order]
        accepted = np.cumsum(~positive) / np.sum(~positive)
        rejected = 1 - np.cumsum(positive) / np.sum(positive)
        return similarity[upper][order], accepted - rejected

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        return cls(
            np.concatenate([tally._vectors for tally in tallies]),
            np.concatenate([tally._labels for tally in tallies]),
        )


def _totals(drawn: Weights, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pairs of one label and of different ones, shape (2, resamples)."""
    wide = drawn.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)
    members = codes[:, None] == np.arange(codes.max(initial=-1) + 1)
    same = (np.square(wide @ members.astype(np.float64)).sum(axis=1) - squares) / 2
    every = (np.square(wide.sum(axis=1)) - squares) / 2
    return np.stack([same, every - same])


def _crossed(above: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """False acceptance less false rejection, times all pairs of both kinds: whole numbers."""
    difference: NDArray[np.float64] = above[1] * totals[0] - (totals[0] - above[0]) * totals[1]
    return difference


def verification_tally(output: Output, labels: np.ndarray) -> VerificationTally:
    """For the equal error rate over all pairs of vectors by their cosine; (resamples, 1).

    Args:
        output: vectors, (samples, elements).
        labels: who or what each is of, (samples,); samples with labels below 0 are in no pair.

    Raises:
        DataError: labels are no whole numbers, one a sample, or the output no vectors.
    """
    check_counts(output, labels)
    wanted = whole_numbers(np.asarray(labels), "labels")
    if wanted.size != len(wanted):
        raise DataError(
            f"labels have shape {wanted.shape[1:]} for one sample, one number is needed for each"
        )
    return VerificationTally(vectors_of(output, "the outputs"), wanted.reshape(-1))
