import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxcompress.errors import DataError
from onnxcompress.quantization.histogram import BINS, Histogram

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
batches = st.lists(arrays(np.float32, st.integers(0, 20), elements=finite), min_size=1, max_size=6)


def _of(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


def _same(one: Histogram, other: Histogram) -> None:
    assert (one.exponent, one.first) == (other.exponent, other.first)
    assert (one.minimum, one.maximum) == (other.minimum, other.maximum)
    np.testing.assert_array_equal(one.counts, other.counts)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(batches, st.randoms(use_true_random=False))
def test_order_and_batch_size_do_not_matter(batches: list[np.ndarray], random: object) -> None:
    shuffled = list(batches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = np.concatenate(batches)
    _same(_of(*batches), _of(*shuffled))
    _same(_of(*batches), _of(whole))
    _same(_of(*batches), _of(*whole.reshape(-1, 1)))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(arrays(np.float32, st.integers(1, 50), elements=finite))
def test_every_value_falls_into_its_bin(values: np.ndarray) -> None:
    histogram = _of(values)
    assert histogram.total == values.size
    assert histogram.counts.size <= BINS
    assert histogram.minimum == values.min() and histogram.maximum == values.max()
    wide = [math.floor(math.ldexp(float(value), -histogram.exponent)) for value in values]
    expected = np.bincount(np.array(wide) - histogram.first, minlength=histogram.counts.size)
    np.testing.assert_array_equal(histogram.counts, expected)


def test_a_batch_is_counted_whole_however_large() -> None:
    values = np.random.default_rng(0).standard_normal((5, 50_001), dtype=np.float32)
    together, apart = Histogram(), Histogram()
    together.add(values.T)
    for row in values:
        for part in np.array_split(row, 7):
            apart.add(part)
    assert together.total == values.size
    assert (together.exponent, together.first) == (apart.exponent, apart.first)
    np.testing.assert_array_equal(together.counts, apart.counts)


def test_bins_are_narrow() -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    histogram = _of(values)
    width = 2.0**histogram.exponent
    assert (values.max() - values.min()) / BINS <= width <= 4 * (values.max() - values.min()) / BINS


@pytest.mark.parametrize("value", [0.0, -0.0, 5.0, -3e38, 3.4e38, 1e-45, -1e-45, 1e-30])
def test_one_value_over_and_over(value: float) -> None:
    histogram = _of(np.full((3, 4), value, np.float32), np.full(8, value, np.float32))
    assert histogram.total == 20
    assert np.count_nonzero(histogram.counts) == 1
    for fraction in (0.0, 0.5, 1.0):
        assert histogram.quantile(fraction) == np.float32(value)


def test_huge_and_tiny_values_together() -> None:
    values = np.float32([-3.4e38, -1e-45, 0, 1e-45, 1e-30, 3.4e38])
    histogram = _of(values)
    _same(histogram, _of(*values[::-1].reshape(-1, 1)))
    assert histogram.total == 6
    assert histogram.quantile(1.0) == float(values[-1])


def test_empty_batches_say_nothing() -> None:
    histogram = _of(np.zeros((0, 3), np.float32))
    assert histogram.total == 0
    _same(_of(np.zeros((0, 3), np.float32), np.ones(2, np.float32)), _of(np.ones(2, np.float32)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_not_counted(bad: float) -> None:
    histogram = _of(np.ones(3, np.float32))
    with pytest.raises(DataError, match="NaN or infinite"):
        histogram.add(np.float32([1, bad, 2]))
    assert histogram.total == 3


def test_other_float_types() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    _same(_of(values), _of(values.astype(np.float32)))
    half = values.astype(np.float16)
    _same(_of(half), _of(half.astype(np.float32)))
    nearly = np.nextafter(np.float64(1), 0)  # float32 rounds it up, over the edge of its bin
    assert _of(np.array([0.0, nearly])).total == 2
    with pytest.raises(DataError):
        _of(np.array([1e300]))


def test_quantiles_stay_within_a_bin_of_numpy() -> None:
    rng = np.random.default_rng(1)
    for values in (
        rng.standard_normal(5000),
        rng.exponential(size=5000),
        rng.uniform(-1, 5, 777),
        np.concatenate([np.zeros(4000), rng.standard_normal(1000)]),
        np.float32([1, 2, 3]),
    ):
        histogram = _of(values.astype(np.float32))
        width = 2.0**histogram.exponent
        for fraction in (0, 1e-4, 0.01, 0.3, 0.5, 0.9, 0.9999, 1):
            lower = np.quantile(values, fraction, method="lower")
            higher = np.quantile(values, fraction, method="higher")
            found = histogram.quantile(fraction)
            assert lower - 2 * width <= found <= higher + 2 * width


def test_edges_and_centers() -> None:
    histogram = _of(np.float32([-1, 0, 3]))
    assert histogram.edges.size == histogram.counts.size + 1
    assert histogram.edges[0] == -1 and histogram.edges[-1] == 3
    assert (np.diff(histogram.edges) >= 0).all()
    assert (histogram.centers >= -1).all() and (histogram.centers <= 3).all()
