import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.measure.retrieval import (
    LabelRecallTally,
    NeighbourRecallTally,
    label_recall_tally,
    neighbour_recall_tally,
    recall_drop,
    recall_value,
)
from onnxcompress.measure.tally import Tally

RNG = np.random.default_rng(6)
N, D = 120, 9
NAMES = RNG.integers(0, 6, N)
VECTORS = RNG.standard_normal((6, D))[NAMES] + 0.8 * RNG.standard_normal((N, D)) + 5


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def _nearest(vectors: np.ndarray, k: int) -> list[set[int]]:
    centred = vectors - vectors.mean(axis=0)
    found = []
    for place, vector in enumerate(centred):
        cosines = centred @ vector / np.linalg.norm(centred, axis=1) / np.linalg.norm(vector)
        found.append(set([int(n) for n in np.argsort(-cosines) if n != place][:k]))
    return found


@pytest.mark.parametrize("k", [1, 3, 10, N - 1])
def test_recall_against_labels(k: int) -> None:
    labels = NAMES.copy()
    labels[:4] = [-1, -1, 100, 101]
    near = _nearest(VECTORS, k)
    hits = np.array([any(labels[n] == labels[i] for n in near[i]) for i in range(N)])
    hits[:4] = False
    weights = np.stack([np.ones(N, dtype=np.int64), RNG.integers(0, 4, N)])
    sums = label_recall_tally(VECTORS, labels, k).sums(weights)
    np.testing.assert_array_equal(sums[:, 0], weights @ hits)
    np.testing.assert_array_equal(sums[:, 1], weights[:, 4:].sum(axis=1))


@pytest.mark.parametrize("k", [1, 3, 10, N - 1])
def test_recall_of_the_originals_neighbours(k: int) -> None:
    candidate = VECTORS + 0.3 * RNG.standard_normal((N, D))
    pairs = zip(_nearest(candidate, k), _nearest(VECTORS, k), strict=True)
    kept = np.array([len(ours & theirs) for ours, theirs in pairs])
    weights = np.stack([np.ones(N, dtype=np.int64), RNG.integers(0, 4, N)])
    sums = neighbour_recall_tally(candidate, VECTORS, k).sums(weights)
    np.testing.assert_array_equal(sums, np.stack([weights @ kept, weights.sum(axis=1) * k], axis=1))
    ours, theirs = sums[:1], _once(neighbour_recall_tally(VECTORS, VECTORS, k))
    assert recall_value(theirs) == 1
    assert recall_drop(ours, theirs) == pytest.approx(1 - kept.mean() / k)


def test_joined_recall_is_the_whole() -> None:
    pieces = [slice(0, 50), slice(50, None)]
    by_label = [label_recall_tally(VECTORS[s], NAMES[s], 3) for s in pieces]
    np.testing.assert_array_equal(
        _once(LabelRecallTally.joined(by_label)), _once(label_recall_tally(VECTORS, NAMES, 3))
    )
    other = VECTORS[:, ::-1] ** 2
    by_neighbour = [neighbour_recall_tally(other[s], VECTORS[s], 3) for s in pieces]
    np.testing.assert_array_equal(
        _once(NeighbourRecallTally.joined(by_neighbour)),
        _once(neighbour_recall_tally(other, VECTORS, 3)),
    )


def test_duplicates_are_as_near_as_each_other() -> None:
    twice = np.repeat(VECTORS, 3, axis=0)
    turned = twice @ np.linalg.qr(RNG.standard_normal((D, D)))[0]
    assert recall_value(_once(neighbour_recall_tally(turned, twice, 4))) == 1


def test_a_constant_candidate_finds_no_neighbours() -> None:
    constant = np.full((N, D), 0.1)
    assert recall_value(_once(neighbour_recall_tally(constant, VECTORS, 5))) < 0.15


def test_recall_that_proves_nothing() -> None:
    with pytest.raises(DataError, match="recall@3 needs more than 3 samples, there are 3"):
        _once(neighbour_recall_tally(VECTORS[:3], VECTORS[:3], 3))
    with pytest.raises(DataError, match="no two samples have the same label"):
        _once(label_recall_tally(VECTORS, np.arange(N), 3))
    with pytest.raises(DataError, match="one number is needed for each"):
        label_recall_tally(VECTORS, np.zeros((N, 2), dtype=int), 3)
