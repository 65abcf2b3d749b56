"""Mean intersection over union of class maps, over the classes that matter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, whole_numbers
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.rates import lost, ratio
from onnxcompress.measure.tally import Sums, Weights

# Classes with a smaller share of all positions are noise: a few pixels of them weigh as much as any
# other class.
SMALLEST_SHARE: Final = 1e-3
# Class numbers below this are counted in a table.
_SMALL: Final = 1 << 16


class RegionTally:
    """Hits, positions of the truth and predicted positions by sample and class.

    Args:
        names: the classes, rising, shape (classes,).
        counts: shape (samples, 3, classes).
    """

    def __init__(self, names: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self._names = names
        self._counts = counts

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return len(self._counts)

    def sums(self, weights: Weights) -> Sums:
        """Hits, truth, predictions by class that the truth holds; (resamples, 3, classes).

        Raises:
            DataError: no position has a label.
        """
        rows = self._kept.reshape(self.samples, -1)
        sums = weights.astype(np.float64) @ rows
        return sums.reshape(len(weights), 3, -1)

    def lost_small_classes(self) -> NDArray[np.int64]:
        """Classes too small to count of which less than half was found."""
        hits, truth, _ = self._counts.sum(axis=0)
        small = (truth > 0) & (truth < SMALLEST_SHARE * truth.sum())
        lost: NDArray[np.int64] = self._names[small & (2 * hits < truth)]
        return lost

    @cached_property
    def _kept(self) -> NDArray[np.float64]:
        truth = self._counts[:, 1].sum(axis=0)
        if not truth.any():
            raise DataError(
                "no position has a label (0..), so no regions can be compared; give labels, or "
                "choose a metric that needs none"
            )
        return self._counts[..., truth >= SMALLEST_SHARE * truth.sum()].astype(np.float64)

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        names = np.unique(np.concatenate([tally._names for tally in tallies]))
        counts = np.zeros((sum(t.samples for t in tallies), 3, len(names)), dtype=np.int64)
        begin = 0
        for tally in tallies:
            rows = slice(begin, begin + tally.samples)
            counts[rows, :, np.searchsorted(names, tally._names)] = tally._counts
            begin += tally.samples
        return cls(names, counts)


def region_tally(output: Output, target: Output) -> RegionTally:
    """For the mean intersection over union; hits, truth, predictions, (samples, 3, classes).

    Args:
        output: class numbers, (samples, ...) or a list of one array a sample.
        target: the labels or the original's classes, alike; positions below 0 do not count.

    Raises:
        DataError: they are no whole numbers, or differ in shape.
    """
    check_counts(output, target)
    found = []
    for ours, wanted in zip(output, target, strict=True):
        predicted, true = _counted(ours, wanted)
        found.append([_histogram(part) for part in (true[predicted == true], true, predicted)])
    every = [names for row in found for names, _ in row]
    names = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *every]))
    counts = np.zeros((len(found), 3, len(names)), dtype=np.int64)
    for row, parts in zip(counts, found, strict=True):
        for line, (classes, numbers) in zip(row, parts, strict=True):
            line[np.searchsorted(names, classes)] = numbers
    return RegionTally(names, counts)


def mean_intersection(sums: Sums) -> NDArray[np.float64]:
    """The mean over classes that the truth holds, (resamples, 3, classes) -> (resamples,)."""
    hits, truth, predicted = sums[..., 0, :], sums[..., 1, :], sums[..., 2, :]
    held = truth > 0
    shares = np.where(held, ratio(hits, truth + predicted - hits, 0.0), 0.0)
    return ratio(shares.sum(axis=-1), held.sum(axis=-1).astype(np.float64), 0.0)


region_drop: Final = lost(mean_intersection)


def _counted(output: np.ndarray, target: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes and truth where there is a truth, each (positions,)."""
    ours = whole_numbers(np.asarray(output), "the outputs")
    wanted = whole_numbers(np.asarray(target), "labels")
    if [n for n in ours.shape if n != 1] != [n for n in wanted.shape if n != 1]:
        raise DataError(
            f"labels have shape {wanted.shape} for one sample and the output's classes "
            f"{ours.shape}; scale the labels to the output"
        )
    flat = wanted.reshape(-1)
    labelled = flat >= 0
    # What a model calls less than 0 is wrong, whatever it is.
    return np.maximum(ours.reshape(-1)[labelled], -1), flat[labelled]


def _histogram(classes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those that occur, from -1 on, and how often."""
    if classes.max(initial=0) >= _SMALL:
        return np.unique(classes, return_counts=True)
    counts = np.bincount(classes + 1)
    found = np.flatnonzero(counts)
    return found - 1, counts[found]
