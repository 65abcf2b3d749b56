import numpy as np
import pytest

from onnxcompress.quantization.granularity import PER_TENSOR, PerChannel
from onnxcompress.quantization.observers import Range
from onnxcompress.quantization.qparams import (
    activation_qparams,
    dequantize,
    quantize,
    symmetric_qparams,
)
from onnxcompress.quantization.smoothing import (
    ChannelStatistics,
    best_factors,
    int8_noise,
    smoothing_factors,
)
from tests.passes.support import Array, normal

OUTLIERS = np.where(np.arange(32) % 16 == 3, np.float32(60), np.float32(1))


def _seen(rows: Array) -> ChannelStatistics:
    seen = ChannelStatistics.empty(rows.shape[1])
    for part in np.array_split(rows, 3):
        seen.add(part)
    return seen


def test_statistics() -> None:
    rows = np.float32([[1, -2, 0.5], [3, -1, 2], [-4, -5, 1]])
    seen = _seen(rows)
    assert seen.low.tolist() == [-4, -5, 0] and seen.high.tolist() == [3, 0, 2]
    assert seen.squares.tolist() == [26, 30, 5.25] and seen.count == 3
    assert seen.largest.tolist() == [4, 5, 2]


def test_half_the_strength_gives_both_sides_one_range_and_twice_changes_nothing() -> None:
    inputs, weights = np.abs(normal(2, 20)).astype(np.float64)
    inputs[4] = weights[7] = 0
    for strength in (0.0, 0.3, 0.5, 1.0):
        factors = smoothing_factors(inputs, weights, strength)
        assert factors[4] == factors[7] == 1
        again = smoothing_factors(inputs / factors, weights * factors, strength)
        np.testing.assert_allclose(again, 1, rtol=1e-12)
        if strength == 0.5:
            live = np.delete(np.arange(20), [4, 7])
            np.testing.assert_allclose((inputs / factors)[live], (weights * factors)[live])


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_noise_is_what_rounding_leaves(per_channel: bool) -> None:
    rows, weights = normal(4000, 32) * OUTLIERS, [normal(48, 32, seed=1), normal(8, 32, seed=2)]
    factors = np.exp(normal(32, seed=3)).astype(np.float64)
    scaled = (rows / factors).astype(np.float32)
    steps = activation_qparams(Range(float(scaled.min()), float(scaled.max())), np.dtype("u1"))
    rounded = dequantize(quantize(scaled, steps), steps).astype(np.float64)
    error = 0.0
    for weight in weights:
        grown = (weight * factors).astype(np.float32)
        qparams = symmetric_qparams(grown, PerChannel(0) if per_channel else PER_TENSOR)
        got = rounded @ dequantize(quantize(grown, qparams), qparams).T
        error += float(np.square(got - rows @ weight.T).sum(axis=1).mean())
    found = int8_noise(_seen(rows), weights, factors, per_channel=per_channel)
    assert found == pytest.approx(error, rel=0.1)


def test_outliers_are_moved_as_far_as_pays() -> None:
    rows, weights = normal(500, 32) * OUTLIERS, [normal(48, 32, seed=1)]
    seen = _seen(rows)
    factors = best_factors(seen, weights, strength=None, least_gain=0.05)
    assert isinstance(factors, np.ndarray)
    assert factors[OUTLIERS > 1].min() > 3 * factors[OUTLIERS == 1].max()
    before, after = (int8_noise(seen, weights, each) for each in (np.ones(32), factors))
    assert after < before / 10
    fixed = best_factors(seen, weights, strength=0.5, least_gain=0.05)
    assert isinstance(fixed, np.ndarray) and after <= int8_noise(seen, weights, fixed)


def test_without_outliers_it_says_that_there_is_nothing_to_gain() -> None:
    rows, weights = np.sign(normal(500, 32)), [normal(48, 32, seed=1)]
    told = best_factors(_seen(rows), weights, strength=None, least_gain=0.05)
    assert isinstance(told, str) and told.startswith("int8 would leave ")
