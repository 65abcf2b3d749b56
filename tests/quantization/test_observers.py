from collections.abc import Callable

import numpy as np
import pytest

from onnxcompress.quantization.histogram import Histogram
from onnxcompress.quantization.observers import Observer, Range, percentile
from onnxcompress.quantization.qparams import activation_qparams, dequantize, quantize

UINT8 = np.dtype(np.uint8)


def _normal(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(20_000)


def _relu(rng: np.random.Generator) -> np.ndarray:
    return np.maximum(rng.standard_normal(20_000), 0)


def _heavy(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_t(2, 20_000)


def _outliers(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rng.standard_normal(200_000), [40, -25]])


def _uniform(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 3, 20_000)


def _negative(rng: np.random.Generator) -> np.ndarray:
    return -rng.exponential(size=20_000)


Make = Callable[[np.random.Generator], np.ndarray]
SHAPES = [_normal, _relu, _heavy, _outliers, _uniform, _negative]


def _sample(make: Make) -> tuple[np.ndarray, Histogram]:
    values = make(np.random.default_rng(3)).astype(np.float32)
    histogram = Histogram()
    for batch in np.array_split(values, 7):
        histogram.add(batch)
    return values, histogram


def _squared_error(values: np.ndarray, range_: Range) -> float:
    qparams = activation_qparams(range_, UINT8)
    error = dequantize(quantize(values, qparams), qparams).astype(np.float64) - values
    return float(np.square(error).sum())


@pytest.mark.parametrize("make", SHAPES)
def test_min_max_is_what_was_seen(make: Make) -> None:
    values, histogram = _sample(make)
    assert Observer.MIN_MAX.range(histogram) == Range(float(values.min()), float(values.max()))


@pytest.mark.parametrize("make", SHAPES)
@pytest.mark.parametrize("kept", [0.9999, 0.99, 0.5])
def test_percentile_is_numpys_within_a_bin(make: Make, kept: float) -> None:
    values, histogram = _sample(make)
    width = 2.0**histogram.exponent
    found = percentile(histogram, kept)
    for end, fraction in ((found.low, (1 - kept) / 2), (found.high, (1 + kept) / 2)):
        assert end >= np.quantile(values, fraction, method="lower") - 2 * width
        assert end <= np.quantile(values, fraction, method="higher") + 2 * width


@pytest.mark.parametrize("make", SHAPES)
def test_mse_beats_or_equals_min_max_on_the_values_themselves(make: Make) -> None:
    values, histogram = _sample(make)
    best = _squared_error(values, Observer.MSE.range(histogram))
    plain = _squared_error(values, Observer.MIN_MAX.range(histogram))
    assert best <= plain * 1.001
    if make is _outliers:
        assert best < plain * 0.7


@pytest.mark.parametrize("make", SHAPES)
def test_mse_is_near_the_best_of_a_brute_force_search(make: Make) -> None:
    values, histogram = _sample(make)
    low, high = min(float(values.min()), 0), max(float(values.max()), 0)
    steps = np.linspace(0.2, 1, 25)
    best = min(_squared_error(values, Range(low * a, high * b)) for a in steps for b in steps)
    assert _squared_error(values, Observer.MSE.range(histogram)) <= best * 1.1


@pytest.mark.parametrize("make", SHAPES)
@pytest.mark.parametrize("observer", Observer)
def test_ranges_lie_within_what_was_seen_and_zero(make: Make, observer: Observer) -> None:
    values, histogram = _sample(make)
    found = observer.range(histogram)
    assert min(float(values.min()), 0) <= found.low <= found.high
    assert found.high <= max(float(values.max()), 0)


def test_entropy_cuts_outliers_and_leaves_uniform_values_alone() -> None:
    _, histogram = _sample(_outliers)
    found = Observer.ENTROPY.range(histogram)
    assert 3 < found.high < 20
    assert -20 < found.low < -3
    _, histogram = _sample(_uniform)
    found = Observer.ENTROPY.range(histogram)
    assert found.high > 2.8 and found.low < -0.9


@pytest.mark.parametrize("observer", Observer)
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-30, 3e38])
def test_a_tensor_of_one_value(observer: Observer, value: float) -> None:
    histogram = Histogram()
    histogram.add(np.full(100, value, np.float32))
    qparams = activation_qparams(observer.range(histogram), UINT8)
    got = dequantize(quantize(np.float32([value]), qparams), qparams)
    np.testing.assert_allclose(got, np.float32([value]), rtol=1e-2, atol=0)


@pytest.mark.parametrize("observer", Observer)
def test_the_answer_does_not_depend_on_the_unit(observer: Observer) -> None:
    values = np.random.default_rng(5).standard_t(3, 5000).astype(np.float32)
    ranges = []
    for factor in (1.0, 2.0**60, 2.0**-60):
        histogram = Histogram()
        histogram.add(values * np.float32(factor))
        found = observer.range(histogram)
        ranges.append((found.low / factor, found.high / factor))
    np.testing.assert_allclose(ranges[1:], [ranges[0]] * 2, rtol=1e-12)
