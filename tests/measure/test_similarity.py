import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.measure.similarity import (
    embedding_drop,
    embedding_tally,
    embedding_value,
    mean_vector,
)
from onnxcompress.measure.tally import Tally

RNG = np.random.default_rng(12)
N, D = 120, 9
VECTORS = RNG.standard_normal((N, D)) + 5


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def test_embedding_similarity() -> None:
    centre = mean_vector(VECTORS)
    candidate = VECTORS + 0.5 * RNG.standard_normal((N, D))
    ours, theirs = candidate - VECTORS.mean(axis=0), VECTORS - VECTORS.mean(axis=0)
    want = [2 * (a @ b) / (a @ a + b @ b) for a, b in zip(ours, theirs, strict=True)]
    sums = _once(embedding_tally(candidate, VECTORS, centre))
    assert embedding_value(sums) == pytest.approx(np.mean(want), abs=1e-12)
    own = _once(embedding_tally(VECTORS, VECTORS, centre))
    assert embedding_value(own) == 1
    assert embedding_drop(sums, own) == pytest.approx(1 - np.mean(want), abs=1e-12)
    eye = np.eye(N, dtype=np.int64)
    rows = embedding_tally(list(candidate), list(VECTORS), centre).sums(eye)
    np.testing.assert_allclose(rows, np.stack([want, np.ones(N)], axis=1), atol=1e-12)


def test_embeddings_without_content() -> None:
    centre = mean_vector(VECTORS)

    def value(candidate: np.ndarray) -> float:
        return float(embedding_value(_once(embedding_tally(candidate, VECTORS, centre)))[0])

    assert value(np.tile(centre, (N, 1))) == 0
    assert abs(value(RNG.permutation(VECTORS))) < 0.2
    assert value(centre + 2 * (VECTORS - centre)) == pytest.approx(0.8)
    assert value(2 * centre - VECTORS) == pytest.approx(-1)


def test_embeddings_at_the_mean() -> None:
    same = np.ones((3, 2))
    assert embedding_value(_once(embedding_tally(same, same, mean_vector(same)))) == 1
    assert embedding_value(_once(embedding_tally(same + 1, same, mean_vector(same)))) == 0


def test_embeddings_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="vectors of 3 elements cannot be compared"):
        embedding_tally(np.zeros((2, 3)), np.zeros((2, 4)), np.zeros(4))
    with pytest.raises(DataError, match="no samples to take a mean of"):
        mean_vector(np.zeros((0, 4)))
    with pytest.raises(DataError, match="numbers are needed"):
        mean_vector(np.array(["a"]))
