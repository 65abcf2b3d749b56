import numpy as np
import pytest

from onnxcompress.quantization.small_float import BFLOAT16, FLOAT8, FLOAT16, narrow
from tests.passes.support import Array, normal


@pytest.mark.parametrize(("dtype", "bits"), [(FLOAT16, 11), (BFLOAT16, 8), (FLOAT8, 4)])
def test_the_error_is_half_a_unit_in_the_last_place(dtype: np.dtype, bits: int) -> None:
    w = normal(8, 64) + np.float32(4)  # no subnormals, about which nothing relative holds
    got = narrow(w, dtype, 0).widened().astype(np.float64)
    relative = np.abs(got - w) / np.abs(w)
    assert 0.3 * 2.0**-bits < relative.max() <= 2.0**-bits * 1.001


def test_float8_has_a_scale_for_each_channel() -> None:
    w = normal(3, 100) * np.array([[1e-6], [1], [1e5]], np.float32)
    w[2] = 0
    small = narrow(w, FLOAT8, 0)
    assert small.scale is not None and small.scale.shape == (3, 1)
    largest = np.abs(small.values.astype(np.float32)).max(1)
    assert largest.tolist() == [448, 448, 0]
    noise = np.square(small.widened() - w).sum(1)[:2] / np.square(w).sum(1)[:2]
    assert (noise < 0.001).all()


@pytest.mark.parametrize("value", [1e5, 3.4e38])
def test_what_does_not_fit_is_infinite(value: float) -> None:
    w: Array = np.full((1, 2), value, np.float32)
    assert np.isinf(narrow(w, FLOAT16, 0).widened()).all()
    assert np.isfinite(narrow(w, FLOAT8, 0).widened()).all()
