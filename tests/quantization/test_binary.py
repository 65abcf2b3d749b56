import itertools

import numpy as np
import pytest

from onnxcompress.quantization.binary import binarize
from onnxcompress.quantization.groups import Grouping, Groups
from tests.passes.support import normal


def test_one_base_is_the_sign_times_the_mean_magnitude() -> None:
    w = normal(5, 40)
    got = binarize(w, Groups.of(w.shape, 0, Grouping.PER_CHANNEL, 1), 1).values()
    expected = np.sign(w) * np.abs(w.astype(np.float64)).mean(1, keepdims=True)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_factor_is_the_least_squares_one() -> None:
    w = normal(1, 200).astype(np.float64)
    groups = Groups.of(w.shape, 0, Grouping.PER_TENSOR, 1)
    scale = float(binarize(w, groups, 1).terms[0].scale.item())  # type: ignore[union-attr]
    errors = [np.square(w - a * np.sign(w)).sum() for a in (0.999 * scale, scale, 1.001 * scale)]
    assert errors[1] < min(errors[0], errors[2])


def test_further_bases_take_what_the_ones_before_left() -> None:
    w = normal(4, 300)
    groups = Groups.of(w.shape, 0, Grouping.PER_CHANNEL, 1)
    rest = w.astype(np.float64)
    expected = np.zeros_like(rest)
    for _ in range(3):
        step = np.where(rest >= 0, 1, -1) * np.abs(rest).mean(1, keepdims=True)
        expected, rest = expected + step, rest - step
    np.testing.assert_allclose(binarize(w, groups, 3).values(), expected, rtol=2e-6, atol=1e-6)
    errors = [np.square(w - binarize(w, groups, n).values()).sum() for n in (1, 2, 3, 4, 8)]
    assert all(later < 0.7 * earlier for earlier, later in itertools.pairwise(errors))


def test_a_zero_is_positive_and_zeros_stay_zeros() -> None:
    groups = Groups.of((1, 4), 0, Grouping.PER_TENSOR, 1)
    assert binarize(np.array([[0, 2, -2, 0]], np.float32), groups, 1).values().tolist() == [
        [1, 1, -1, 1]
    ]
    assert not binarize(np.zeros((1, 4), np.float32), groups, 2).values().any()


@pytest.mark.parametrize("bases", [1, 2, 3])
def test_padding_of_the_last_block_has_no_say(bases: int) -> None:
    w = normal(3, 10) + 3
    got = binarize(w, Groups.of(w.shape, 0, Grouping.PER_BLOCK, 8), bases).values()
    tail = w[:, 8:].copy()
    alone = binarize(tail, Groups.of(tail.shape, 0, Grouping.PER_CHANNEL, 1), bases).values()
    np.testing.assert_array_equal(got[:, 8:], alone)
