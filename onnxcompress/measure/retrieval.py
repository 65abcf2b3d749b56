"""Whether vectors find the same neighbours, or neighbours of the same label: recall at k.

The neighbours are those among all samples that were judged, and resampling draws the samples that
search, not the ones that can be found. Drawing both would make copies each other's neighbours and
thin out the rest; the bootstrap is known to fail there, and to hold where the matches are kept
(A. Abadie, G. Imbens, "On the failure of the bootstrap for matching estimators", Econometrica 76,
2008; T. Otsu, Y. Rai, "Bootstrap inference of matching estimators for average treatment effects",
JASA 112, 2017). So the rows are sums over samples once all samples are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, vectors_of, whole_numbers
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.rates import lost, mean
from onnxcompress.measure.tally import Sums, Weights

# Cosines held at once.
_BLOCK: Final = 1 << 22
# Cosines this near each other are equal: rounding in a sum of products.
_EQUAL: Final = 1e-9


class LabelRecallTally:
    """Vectors with labels.

    Args:
        vectors: shape (samples, elements).
        labels: shape (samples,).
        k: how many neighbours are looked at.
    """

    def __init__(self, vectors: NDArray[np.float64], labels: NDArray[np.int64], *, k: int) -> None:
        self._vectors = vectors
        self._labels = labels
        self._k = k

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return len(self._vectors)

    def sums(self, weights: Weights) -> Sums:
        """Samples with a neighbour of their label, and samples that count; (resamples, 2).

        A sample counts if its label is not below 0 and some other sample has it too.

        Raises:
            DataError: none counts, or there are not more than `k` samples.
        """
        return weights.astype(np.float64) @ self._rows

    @cached_property
    def _rows(self) -> NDArray[np.float64]:
        names, codes, counts = np.unique(self._labels, return_inverse=True, return_counts=True)
        counted = (names[codes] >= 0) & (counts[codes] > 1)
        if not counted.any():
            raise DataError(
                "no two samples have the same label, so no neighbour can have it; give more "
                "samples, or no labels to compare with the original's neighbours"
            )
        found = self._labels[_neighbours(self._vectors, self._k)]
        hit = (found == self._labels[:, None]).any(axis=1) & counted
        return np.stack([hit, counted], axis=1).astype(np.float64)

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        return cls(
            np.concatenate([tally._vectors for tally in tallies]),
            np.concatenate([tally._labels for tally in tallies]),
            k=tallies[0]._k,
        )


class NeighbourRecallTally:
    """A candidate's vectors and the original's.

    Args:
        vectors: shape (samples, elements).
        truth: the original's, shape (samples, its elements).
        k: how many neighbours are looked at.
    """

    def __init__(self, vectors: NDArray[np.float64], truth: NDArray[np.float64], *, k: int) -> None:
        self._vectors = vectors
        self._truth = truth
        self._k = k

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return len(self._vectors)

    def sums(self, weights: Weights) -> Sums:
        """Neighbours that are the original's too, and neighbours; (resamples, 2).

        A neighbour that is as near to the original as its k-th counts as one of them.

        Raises:
            DataError: there are not more than `k` samples.
        """
        return weights.astype(np.float64) @ self._rows

    @cached_property
    def _rows(self) -> NDArray[np.float64]:
        found = _neighbours(self._vectors, self._k)
        units = _centred_units(self._truth)
        kept = np.empty(len(units))
        for rows, cosines in _cosine_blocks(units):
            farthest = np.partition(cosines, -self._k, axis=1)[:, -self._k]
            near = np.take_along_axis(cosines, found[rows], axis=1)
            kept[rows] = (near >= farthest[:, None] - _EQUAL).sum(axis=1)
        return np.stack([kept, np.full(len(kept), float(self._k))], axis=1)

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        return cls(
            np.concatenate([tally._vectors for tally in tallies]),
            np.concatenate([tally._truth for tally in tallies]),
            k=tallies[0]._k,
        )


def label_recall_tally(output: Output, labels: np.ndarray, k: int) -> LabelRecallTally:
    """For the share of samples with one of their `k` nearest neighbours of their label.

    Nearest by cosine once the mean over all samples is taken away, the sample itself left out; of
    equally near ones the first.

    Args:
        output: vectors, (samples, elements).
        labels: (samples,) whole numbers; those below 0 do not count.
        k: how many neighbours are looked at.

    Raises:
        DataError: labels are no whole numbers, one a sample, or the output no vectors.
    """
    check_counts(output, labels)
    wanted = whole_numbers(np.asarray(labels), "labels")
    if wanted.size != len(wanted):
        raise DataError(
            f"labels have shape {wanted.shape[1:]} for one sample, one number is needed for each"
        )
    return LabelRecallTally(vectors_of(output, "the outputs"), wanted.reshape(-1), k=k)


def neighbour_recall_tally(output: Output, reference: Output, k: int) -> NeighbourRecallTally:
    """For the share of the original's `k` nearest neighbours that are the candidate's too.

    Args:
        output: the candidate's vectors, (samples, elements).
        reference: the original's.
        k: how many neighbours are looked at.

    Raises:
        DataError: the outputs are no vectors of one length.
    """
    check_counts(output, reference)
    ours = vectors_of(output, "the outputs")
    return NeighbourRecallTally(ours, vectors_of(reference, "the original's outputs"), k=k)


recall_value: Final = mean
recall_drop: Final = lost(mean)


def _centred_units(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions from the mean, zero for what is there, but for rounding."""
    centred = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    rounding = np.finfo(np.float64).eps * np.abs(vectors).max(initial=0.0)
    rounding *= np.sqrt(vectors.shape[1])
    units: NDArray[np.float64] = np.zeros_like(centred)
    np.divide(centred, lengths, out=units, where=lengths > rounding)
    return units


def _cosine_blocks(
    units: NDArray[np.float64],
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Cosines of some samples to all, minus infinity to themselves."""
    step = max(1, _BLOCK // len(units))
    for begin in range(0, len(units), step):
        rows = np.arange(begin, min(begin + step, len(units)))
        cosines = units[rows] @ units.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        yield slice(begin, begin + step), cosines


def _neighbours(vectors: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The `k` nearest of each sample in no order, shape (samples, k); of equal ones the first.

    Raises:
        DataError: there are not more than `k` samples.
    """
    if len(vectors) <= k:
        raise DataError(
            f"recall@{k} needs more than {k} samples, there are {len(vectors)}; give more, or look "
            f"at fewer neighbours"
        )
    found = np.empty((len(vectors), k), dtype=np.int64)
    for rows, cosines in _cosine_blocks(_centred_units(vectors)):
        farthest = np.partition(cosines, -k, axis=1)[:, -k, None]
        nearer = cosines > farthest + _EQUAL
        equal = (cosines >= farthest - _EQUAL) & ~nearer
        room = k - nearer.sum(axis=1, keepdims=True)
        chosen = nearer | (equal & (np.cumsum(equal, axis=1) <= room))
        found[rows] = np.nonzero(chosen)[1].reshape(-1, k)
    return found
