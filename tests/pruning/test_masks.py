import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcompress.pruning.masks import (
    Pattern,
    block_importances,
    keep_most,
    keep_most_of_rows,
    keep_pattern,
    layer_adaptive,
    spread_blocks,
)
from tests.passes.support import Array, normal


def _importances(*shape: int, seed: int = 0) -> Array:
    return np.abs(normal(*shape, seed=seed))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.floats(0, 1),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_one_threshold_takes_the_exact_share(
    sizes: list[int], sparsity: float, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)  # few levels, so many are equal
    arrays = [rng.integers(0, levels, size).astype(np.float32) for size in sizes]
    masks = keep_most(arrays, sparsity)
    together, kept = np.concatenate(arrays), np.concatenate(masks)
    gone = round(sparsity * together.size)
    assert np.count_nonzero(~kept) == gone
    expected = np.ones(together.size, np.bool_)
    expected[np.argsort(together, kind="stable")[:gone]] = False
    np.testing.assert_array_equal(kept, expected)


def test_masks_follow_arrays_in_any_memory_order() -> None:
    values = _importances(4, 6)
    (mask,) = keep_most([values.T], 0.5)
    np.testing.assert_array_equal(mask, np.median(values) < values.T)
    (mask,) = keep_most([np.zeros((2, 3), np.float32).T], 0.5)
    np.testing.assert_array_equal(mask, [[False, False], [False, True], [True, True]])


def test_layer_adaptive_scores_are_the_papers() -> None:
    values = _importances(3, 7)
    scores = layer_adaptive(values)
    expected = [v / values[values >= v].astype(np.float64).sum() for v in values.reshape(-1)]
    np.testing.assert_allclose(scores.reshape(-1), expected, rtol=1e-6)
    np.testing.assert_array_equal(np.argsort(scores, axis=None), np.argsort(values, axis=None))
    assert layer_adaptive(np.float32([0, 1e-40, 1e20]))[:2].tolist() == [
        0,
        np.finfo(np.float32).smallest_subnormal,
    ]


def test_layer_adaptive_scores_do_not_depend_on_the_size_of_weights() -> None:
    small, large = _importances(50), 1000 * _importances(50, seed=1)
    plain = keep_most([small, large], 0.5)
    assert plain[0].sum() == 0
    fair = keep_most([layer_adaptive(small), layer_adaptive(large)], 0.5)
    assert fair[0].sum() > 20 and fair[1].sum() > 20


def test_rows_lose_the_same_number() -> None:
    values = _importances(2, 3, 10)
    mask = keep_most_of_rows(values, 0.3)
    assert (np.count_nonzero(~mask, axis=-1) == 3).all()
    assert np.where(mask, -np.inf, values).max(axis=-1).ravel().tolist() == (
        np.sort(values, axis=-1)[..., 2].ravel().tolist()
    )


@pytest.mark.parametrize(("text", "kernel"), [("2:4", 1), ("1:4", 9), ("4:8", 3), ("1:2", 1)])
def test_patterns_hold_along_input_channels(text: str, kernel: int) -> None:
    pattern = Pattern.parse(text)
    values = _importances(2, 3, 16 * kernel)
    mask = keep_pattern(values, pattern, kernel)
    for place in range(kernel):
        channels = values[..., place::kernel].reshape(2, 3, -1, pattern.size)
        kept = mask[..., place::kernel].reshape(2, 3, -1, pattern.size)
        assert (kept.sum(axis=-1) == pattern.kept).all()
        highest_gone = np.where(kept, -np.inf, channels).max(axis=-1)
        assert (np.where(kept, channels, np.inf).min(axis=-1) >= highest_gone).all()


@pytest.mark.parametrize("text", ["", "2", "2:4:8", "4:4", "0:4", "-1:4", "2:x"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form 2:4|must keep at least 1"):
        Pattern.parse(text)


def test_blocks_have_the_mean_importance_of_their_weights() -> None:
    values = _importances(2, 3, 10)
    blocks = block_importances(values, 4)
    expected = [values[..., a:b].astype(np.float64).mean(-1) for a, b in ((0, 4), (4, 8), (8, 10))]
    np.testing.assert_allclose(blocks, np.stack(expected, axis=-1), rtol=1e-6)
    mask = spread_blocks(blocks > 0.8, 4, 10)
    assert mask.shape == values.shape
    np.testing.assert_array_equal(
        mask[..., [0, 3, 4, 7, 8, 9]], (blocks > 0.8)[..., [0, 0, 1, 1, 2, 2]]
    )
    np.testing.assert_array_equal(block_importances(values, 1), values)
