import numpy as np
import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.passes import TernarizeWeights
from onnxcompress.quantization.groups import Grouping
from onnxcompress.recipe import parse_pass
from tests.helpers import ops, outputs

from .restored import restored
from .support import Array, apply, model_of, normal

X = normal(4, 256)
W = normal(256, 96, seed=1)
PRODUCT = "g (float[N, 256] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }"


def trits(w: Array, threshold: float, axis: tuple[int, ...]) -> Array:
    """Ternary Weight Networks over `axis`, in float64."""
    magnitude = np.abs(w.astype(np.float64))
    large = magnitude > threshold * magnitude.mean(axis, keepdims=True)
    factor = (magnitude * large).sum(axis, keepdims=True) / large.sum(axis, keepdims=True)
    result: Array = np.sign(w) * large * factor
    return result


@pytest.mark.parametrize(
    ("granularity", "axis"), [(Grouping.PER_CHANNEL, (0,)), (Grouping.PER_TENSOR, (0, 1))]
)
@pytest.mark.parametrize("threshold", [0.7, 1.2])
def test_the_product_is_that_of_the_trits(
    granularity: Grouping, axis: tuple[int, ...], threshold: float
) -> None:
    model = model_of(PRODUCT, w=W)
    report = apply(TernarizeWeights(granularity=granularity, threshold=threshold), model)
    assert ops(model) == ["BitShift", "Mod", "Cast", "Reshape", "Gather", "Mul", "MatMul"]
    expected = X.astype(np.float64) @ trits(W, threshold, axis)
    np.testing.assert_allclose(outputs(model, {"x": X})["y"], expected, rtol=2e-5, atol=2e-5)
    assert report.bytes_before / report.bytes_after >= 14


def test_blocks_within_a_kernel() -> None:
    w = normal(32, 8, 3, 3)
    text = "g (float[N, 8, 9, 9] x) => (float[N, 32, 7, 7] y) { [n] y = Conv(x, w) }"
    model = model_of(text, w=w)
    apply(TernarizeWeights(granularity=Grouping.PER_BLOCK, block_size=36), model)
    expected = trits(w.reshape(32, 2, 36), 0.7, (2,)).reshape(w.shape)
    np.testing.assert_allclose(restored(model, "n"), expected, rtol=1e-6)


@pytest.mark.parametrize("text", ["threshold=-0.1", "threshold=inf", "block_size=0"])
def test_options_out_of_range(text: str) -> None:
    with pytest.raises(RecipeError, match="block_size must be at least 1, threshold"):
        parse_pass(f"ternarize-weights:{text}")
