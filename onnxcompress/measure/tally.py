"""What is counted for each sample, so that any resampling of the samples is a weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.int64]
Sums = NDArray[np.float64]


class Tally(Protocol):
    """Counts for `samples` samples."""

    @property
    def samples(self) -> int:
        """How many samples were counted."""

    def sums(self, weights: Weights) -> Sums:
        """Adds up the counts, each sample as often as its weight says.

        Args:
            weights: shape (resamples, samples).

        Returns:
            An array whose first axis is resamples.
        """

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies, at least one, in order."""


class RowTally:
    """A few numbers for each sample.

    Args:
        rows: shape (samples, numbers).
    """

    def __init__(self, rows: NDArray[np.float64]) -> None:
        self.rows = rows

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return len(self.rows)

    def sums(self, weights: Weights) -> Sums:
        """Shape (resamples, numbers)."""
        return weights.astype(np.float64) @ self.rows

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        return cls(np.concatenate([tally.rows for tally in tallies]))


class ConfusionTally:
    """Hits, labels and predictions by class; a sample may hold several labelled positions.

    Args:
        samples: how many samples there are.
        sample_of: the sample of each position, shape (positions,).
        true: the label of each position.
        predicted: the class predicted at each position.
    """

    def __init__(
        self,
        samples: int,
        sample_of: NDArray[np.int64],
        true: NDArray[np.int64],
        predicted: NDArray[np.int64],
    ) -> None:
        self._samples = samples
        self._sample_of = sample_of
        both = np.concatenate([true, predicted])
        self._names, codes = np.unique(both, return_inverse=True)
        self._classes = len(self._names)
        self._true, self._predicted = np.split(codes, [len(true)])
        self._hit = self._true == self._predicted

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return self._samples

    def sums(self, weights: Weights) -> Sums:
        """Shape (resamples, 3, classes): hits, labels, predictions."""
        sums = np.empty((len(weights), 3, self._classes))
        for row, weight in zip(sums, weights, strict=True):
            of = weight[self._sample_of]
            row[0] = np.bincount(self._true[self._hit], of[self._hit], self._classes)
            row[1] = np.bincount(self._true, of, self._classes)
            row[2] = np.bincount(self._predicted, of, self._classes)
        return sums

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        begins = np.cumsum([0, *(tally._samples for tally in tallies)])
        shifted = [t._sample_of + begin for t, begin in zip(tallies, begins[:-1], strict=True)]
        return cls(
            int(begins[-1]),
            np.concatenate(shifted),
            np.concatenate([tally._names[tally._true] for tally in tallies]),
            np.concatenate([tally._names[tally._predicted] for tally in tallies]),
        )
