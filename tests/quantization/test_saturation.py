import numpy as np
import pytest

from onnxcompress.quantization.granularity import PER_TENSOR, PerChannel
from onnxcompress.quantization.qparams import quantize, symmetric_qparams
from onnxcompress.quantization.saturation import (
    PAIR_LIMIT,
    pair_bounds,
    pair_safe_qparams,
    pair_sums,
    pairs,
)

RNG = np.random.default_rng(3)


def test_the_limit_is_the_largest_sum_that_fits_an_int16() -> None:
    assert 255 * PAIR_LIMIT <= 32767 < 255 * (PAIR_LIMIT + 1)


def test_pairs_start_at_even_places_and_an_odd_end_stands_alone() -> None:
    np.testing.assert_array_equal(pairs(np.arange(5.0)), [[0, 1], [2, 3], [4, 0]])


def test_only_weights_of_one_sign_add_up() -> None:
    rows = np.array([[3, 4, -5, -6, 7, -2, -9]])
    np.testing.assert_array_equal(pair_sums(rows), [[7, 11, 7, 9]])


def test_sums_are_the_worst_that_any_activations_make_of_a_pair() -> None:
    rows = RNG.integers(-127, 128, (4, 6))
    ends = np.array([[0, 0], [0, 255], [255, 0], [255, 255]])
    worst = np.abs(np.einsum("opi,ei->ope", pairs(rows), ends)).max(axis=-1)
    np.testing.assert_array_equal(255 * pair_sums(rows), worst)


@pytest.mark.parametrize("granularity", [PER_TENSOR, PerChannel(0)])
@pytest.mark.parametrize("features", [1, 2, 9, 64])
def test_no_pair_saturates_and_the_scale_is_no_larger_than_it_must(
    granularity: PerChannel, features: int
) -> None:
    weights = RNG.standard_normal((50, features)).astype(np.float32)
    weights[3] = 0
    qparams = pair_safe_qparams(weights, granularity, weights)
    levels = quantize(weights, qparams)
    sums = pair_sums(levels).max(axis=1)
    assert sums.max() <= PAIR_LIMIT
    sums = sums[weights.any(axis=1)]
    assert (sums.min() if granularity != PER_TENSOR else sums.max()) >= PAIR_LIMIT - 2
    plain = symmetric_qparams(weights, granularity).scale
    ratio = qparams.scale.astype(np.float64) / plain
    assert ratio.min() >= 1 - 1e-6 and ratio.max() <= 2 + 1e-6
    if features == 1:
        np.testing.assert_array_equal(qparams.scale, plain)


def test_a_large_weight_beside_one_of_the_other_sign_costs_nothing() -> None:
    weights = np.array([[1.0, -1.0, 0.25, 0.5]], np.float32)
    expected = symmetric_qparams(weights, PerChannel(0)).scale
    qparams = pair_safe_qparams(weights, PerChannel(0), weights)
    np.testing.assert_array_equal(qparams.scale, expected)


def test_bounds_of_a_pair_of_one_sign_share_its_room() -> None:
    bounds = pair_bounds(np.array([[100, 27, 60.4, 62.4, 60, -90, -3, -4.5, 5]]))
    np.testing.assert_array_equal(bounds.free, [[False, False, *[True] * 7]])
    np.testing.assert_array_equal(bounds.low[0, 2:], [0, 0, 0, -126, -62, -63, 0])
    np.testing.assert_array_equal(bounds.high[0, 2:], [62, 64, 126, 0, 0, 0, 65])
