import numpy as np
import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.passes import BinarizeWeights
from onnxcompress.quantization.groups import Grouping
from onnxcompress.recipe import parse_pass
from tests.helpers import ops, outputs

from .support import Array, apply, model_of, normal, reasons

X = normal(4, 256)
W = normal(256, 96, seed=1)
PRODUCT = "g (float[N, 256] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }"


def signs(w: Array, bases: int, axis: tuple[int, ...]) -> Array:
    """The sum of signs times mean magnitudes over `axis`, in float64."""
    rest = w.astype(np.float64)
    total = np.zeros_like(rest)
    for _ in range(bases):
        step = np.where(rest >= 0, 1, -1) * np.abs(rest).mean(axis, keepdims=True)
        total, rest = total + step, rest - step
    return total


@pytest.mark.parametrize(
    ("granularity", "axis", "numbers"),
    [(Grouping.PER_CHANNEL, (0,), 96), (Grouping.PER_TENSOR, (0, 1), 1)],
)
@pytest.mark.parametrize("bases", [1, 3])
def test_the_product_is_that_of_the_signs(
    granularity: Grouping, axis: tuple[int, ...], numbers: int, bases: int
) -> None:
    model = model_of(PRODUCT, w=W)
    report = apply(BinarizeWeights(bases=bases, granularity=granularity), model)
    expected = X.astype(np.float64) @ signs(W, bases, axis)
    np.testing.assert_allclose(outputs(model, {"x": X})["y"], expected, rtol=2e-5, atol=2e-5)
    bits = 256 * 96 // 8 + 4 * numbers
    assert bits * bases < report.bytes_after < bits * bases + 50


def test_one_base_is_these_nodes() -> None:
    model = model_of(PRODUCT, w=W)
    apply(BinarizeWeights(), model)
    unpacking = ["BitShift", "Mod", "Cast", "Reshape", "Gather", "Mul"]
    assert ops(model) == [*unpacking, "MatMul"]


def test_blocks_along_the_summed_axis() -> None:
    w = normal(250, 96, seed=1)
    model = model_of(PRODUCT.replace("256", "250"), w=w)
    apply(BinarizeWeights(granularity=Grouping.PER_BLOCK, block_size=100), model)
    parts = [signs(w[start : start + 100], 1, (0,)) for start in (0, 100, 200)]
    expected = X[:, :250].astype(np.float64) @ np.concatenate(parts)
    got = outputs(model, {"x": X[:, :250]})["y"]
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_a_form_that_is_no_smaller_is_not_used() -> None:
    model = model_of(PRODUCT, w=W)
    pass_ = BinarizeWeights(granularity=Grouping.PER_BLOCK, block_size=1)
    report = apply(pass_, model)
    assert not report.modified
    assert reasons(report) == {"n": "would take 101384 bytes, no less than its 98304"}


@pytest.mark.parametrize("text", ["bases=0", "block_size=0"])
def test_options_out_of_range(text: str) -> None:
    with pytest.raises(RecipeError, match="must be at least 1"):
        parse_pass(f"binarize-weights:{text}")
