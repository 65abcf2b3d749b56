import numpy as np
import pytest

from onnxcompress.students.low_rank import LowRank
from tests.passes.support import normal

WEIGHT = normal(2, 9, 14, dtype=np.float64)
ROWS = normal(2, 50, 14, seed=1, dtype=np.float64) * np.geomspace(5, 0.1, 14)
MOMENTS = ROWS.transpose(0, 2, 1) @ ROWS / 50


@pytest.mark.parametrize("moments", [None, MOMENTS, np.zeros_like(MOMENTS)])
def test_full_rank_gives_the_weight_back(moments: np.ndarray | None) -> None:
    for weight in (WEIGHT, WEIGHT[:, :, :5]):
        seen = None if moments is None else moments[:, : weight.shape[2], : weight.shape[2]]
        parts = LowRank.of(weight, seen)
        first, second = parts.factors(min(weight.shape[1:]))
        np.testing.assert_allclose(second @ first, weight, atol=1e-12)
        assert parts.lost(min(weight.shape[1:])) == 0


def test_the_loss_is_the_one_of_the_best_rank() -> None:
    parts = LowRank.of(WEIGHT, MOMENTS)
    outputs = WEIGHT @ ROWS.transpose(0, 2, 1)
    for rank in (1, 4, 8):
        first, second = parts.factors(rank)
        error = np.square(outputs - second @ (first @ ROWS.transpose(0, 2, 1))).sum()
        least = np.square(np.linalg.svd(outputs, compute_uv=False)[:, rank:]).sum()
        assert error == pytest.approx(least, rel=1e-3)
        assert parts.lost(rank) == pytest.approx(least / np.square(outputs).sum(), rel=1e-2)


def test_without_moments_it_is_the_singular_value_decomposition() -> None:
    first, second = LowRank.of(WEIGHT).factors(3)
    left, strengths, right = np.linalg.svd(WEIGHT, full_matrices=False)
    best = (left[:, :, :3] * strengths[:, None, :3]) @ right[:, :3]
    np.testing.assert_allclose(second @ first, best, atol=1e-12)


def test_the_least_rank_keeps_what_is_asked_for() -> None:
    parts = LowRank.of(np.diag([3.0, 2.0, 1.0, 0.0])[None])
    kept = [9 / 14, 13 / 14, 1.0]
    assert [parts.least_rank(energy) for energy in (0.5, *kept)] == [1, 1, 2, 3]


def test_both_factors_are_of_like_size() -> None:
    first, second = LowRank.of(1000 * WEIGHT).factors(9)
    sizes = np.linalg.norm(first, axis=2), np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(*sizes, rtol=1e-9)


def test_a_weight_of_zeros_has_a_rank_too() -> None:
    parts = LowRank.of(np.zeros((1, 4, 4)), np.eye(4)[None])
    first, second = parts.factors(1)
    assert parts.lost(1) == 0
    assert np.isfinite(first).all() and not (second @ first).any()


def test_moments_that_rounding_made_indefinite_still_count() -> None:
    broken = MOMENTS - 0.2 * np.eye(14)
    assert np.linalg.eigvalsh(broken).min() < -0.1
    first, second = LowRank.of(WEIGHT, broken).factors(9)
    np.testing.assert_allclose(second @ first, WEIGHT, atol=1e-10)
