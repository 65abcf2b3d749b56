import itertools

import numpy as np
import pytest

from onnxcompress.quantization.fitting import fitted_qparams
from onnxcompress.quantization.granularity import (
    PER_TENSOR,
    Granularity,
    PerBlock,
    PerChannel,
    reduce_sum,
)
from onnxcompress.quantization.qparams import (
    SIGNED,
    UNSIGNED,
    QParams,
    asymmetric_qparams,
    dequantize,
    quantize,
    symmetric_qparams,
)
from tests.passes.support import Array, normal

GRANULARITIES = [PER_TENSOR, PerChannel(0), PerChannel(-1), PerBlock(1, 16), PerBlock(0, 16)]


def _error(values: Array, qparams: QParams, importance: Array | None = None) -> Array:
    """The squared error of what shares each scale."""
    gaps = np.square(dequantize(quantize(values, qparams), qparams) - values)
    return reduce_sum(gaps if importance is None else gaps * importance, qparams.granularity)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_no_group_is_worse_off_than_with_its_range(
    bits: int, symmetric: bool, granularity: Granularity
) -> None:
    values = normal(40, 50) ** 3 + np.float32(0.3)
    values[:, 7] = 0
    start = (symmetric_qparams if symmetric else asymmetric_qparams)(values, granularity, bits)
    fitted = fitted_qparams(values, granularity, bits, symmetric=symmetric)
    assert fitted.scale.shape == start.scale.shape and fitted.scale.dtype == np.float32
    assert fitted.zero_point.dtype == (SIGNED if symmetric else UNSIGNED)[bits]
    assert fitted.zero_point.shape == start.zero_point.shape
    before, after = _error(values, start), _error(values, fitted)
    assert (after <= before * 1.002 + 1e-9).all()
    assert after.sum() < {2: 0.87, 4: 0.96, 8: 1.0, 16: 1.01}[bits] * before.sum()
    assert not dequantize(quantize(values, fitted), fitted)[:, 7].any()


def test_pieces_searched_apart_give_what_one_gives() -> None:
    values = normal(64, 3000)
    whole = fitted_qparams(values, PerBlock(0, 32), 4, symmetric=False)
    for columns in (slice(0, 700), slice(2500, 3000)):
        part = fitted_qparams(values[:, columns], PerBlock(0, 32), 4, symmetric=False)
        np.testing.assert_array_equal(part.scale, whole.scale[:, columns])
        np.testing.assert_array_equal(
            part.zero_point.astype(int), whole.zero_point[:, columns].astype(int)
        )


@pytest.mark.parametrize("symmetric", [True, False])
def test_near_the_best_grid_there_is(symmetric: bool) -> None:
    values = normal(20, 16)
    fitted = fitted_qparams(values, PerChannel(0), 2, symmetric=symmetric)
    dtype = (SIGNED if symmetric else UNSIGNED)[2]
    best = np.full(20, np.inf)
    for scale, zero in itertools.product(np.linspace(0.1, 3, 600), [0] if symmetric else range(4)):
        tried = QParams(
            np.full(20, scale, np.float32), np.full(20, zero).astype(dtype), PerChannel(0)
        )
        best = np.minimum(best, _error(values, tried))
    assert (_error(values, fitted) < 1.1 * best).mean() >= 0.8
    assert _error(values, fitted).sum() < 1.05 * best.sum()


def test_weights_that_lie_on_a_grid_find_it() -> None:
    scale = np.abs(normal(30, 1)) + np.float32(0.1)
    levels = np.random.default_rng(0).integers(-8, 8, (30, 64))
    values = (levels * scale).astype(np.float32)
    fitted = fitted_qparams(values, PerChannel(0), 4)
    lost = np.sqrt(_error(values, fitted) / 64) / scale[:, 0]
    plain = np.sqrt(_error(values, symmetric_qparams(values, PerChannel(0), 4)) / 64) / scale[:, 0]
    assert np.median(lost) < 1e-5 and np.median(plain) > 0.1


def test_important_weights_lose_less() -> None:
    values = normal(8, 64)
    importance = np.where(np.arange(64) < 8, np.float32(100), np.float32(1))
    importance = np.broadcast_to(importance, values.shape)
    plain = fitted_qparams(values, PerChannel(0), 2)
    heeding = fitted_qparams(values, PerChannel(0), 2, importance=importance)
    weighted = [_error(values, each, importance).sum() for each in (plain, heeding)]
    assert weighted[1] < 0.95 * weighted[0]
    same = fitted_qparams(values, PerChannel(0), 2, importance=np.ones_like(values))
    np.testing.assert_array_equal(same.scale, plain.scale)


def test_zeros_and_tiny_values() -> None:
    values = np.float32([[0, 0], [1e-45, 0], [2, -4]])
    fitted = fitted_qparams(values, PerChannel(0), 4)
    assert fitted.scale[0] == 1 and np.isfinite(fitted.scale).all() and (fitted.scale > 0).all()
    assert np.isfinite(dequantize(quantize(values, fitted), fitted)).all()
