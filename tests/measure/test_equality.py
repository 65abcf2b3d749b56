import numpy as np
import pytest

from onnxcompress.measure.equality import equal_drop, equal_tally, equal_value
from onnxcompress.measure.tally import Tally

RNG = np.random.default_rng(9)


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def test_equal_share() -> None:
    ours, theirs = RNG.integers(0, 3, (2, 20, 4, 5))
    shares = (ours == theirs).reshape(20, -1).mean(axis=1)
    rows = equal_tally(ours, theirs).sums(np.eye(20, dtype=np.int64))
    np.testing.assert_allclose(rows, np.stack([shares, np.ones(20)], axis=1), rtol=1e-15)
    sums = _once(equal_tally(ours, theirs))
    assert equal_value(sums) == pytest.approx(shares.mean())
    assert equal_drop(sums, _once(equal_tally(ours, ours))) == pytest.approx(1 - shares.mean())
    flags = _once(equal_tally(ours > 1, theirs > 1))
    assert equal_value(flags) == pytest.approx(np.mean((ours > 1) == (theirs > 1)))


def test_equal_share_of_other_shapes_and_texts() -> None:
    ours = [np.array([1, 2, 3]), np.array([1]), np.array([], dtype=int), np.array([[1, 2]])]
    theirs = [np.array([1, 2, 4]), np.array([1, 1]), np.array([], dtype=int), np.array([1, 2])]
    rows = equal_tally(ours, theirs).sums(np.eye(4, dtype=np.int64))
    np.testing.assert_allclose(rows[:, 0], [2 / 3, 0, 1, 0])
    names = np.array([["a", "bc"], ["d", "e"]], dtype=object)
    other = np.array([["a", "b"], ["d", "e"]], dtype=object)
    assert _once(equal_tally(names, other)).tolist() == [[1.5, 2]]
    assert _once(equal_tally(["abc", "d"], names[:, 1].tolist())).tolist() == [[0, 2]]
    assert _once(equal_tally(names, np.zeros((2, 2), dtype=int))).tolist() == [[0, 2]]
