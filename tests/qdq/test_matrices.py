import numpy as np
import pytest

from onnxcompress.ir import query
from onnxcompress.qdq.matrices import inputs_of, outputs_of, to_matrices
from tests.helpers import node, outputs
from tests.passes.support import model_of, normal

CONVOLUTIONS = {
    "plain": ("", normal(4, 6, 3, 3)),
    "grouped": ("<group = 2, strides = [2, 1], dilations = [1, 2]>", normal(4, 3, 2, 2)),
    "depthwise": ('<group = 6, auto_pad = "SAME_UPPER", strides = [2, 2]>', normal(12, 1, 3, 3)),
}


@pytest.mark.parametrize("most", [1, 7, 1000])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_outputs_are_those_of_the_same_rows(name: str, most: int) -> None:
    attributes, weight = CONVOLUTIONS[name]
    text = (
        f"g (float[N, 6, 9, 8] x) => (float[N, c, h, w] y) {{ [c] y = Conv {attributes} (x, v) }}"
    )
    model = model_of(text, v=weight)
    values = normal(3, 6, 9, 8)
    product = node(model, "c")
    rows = inputs_of(product, values, most)
    made = outputs_of(product, outputs(model, {"x": values})["y"], most)
    expected = rows @ to_matrices(product, weight).transpose(0, 2, 1)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)
    positions = made.shape[1] // 3
    assert positions == min(most, outputs(model, {"x": values})["y"][0, 0].size)


@pytest.mark.parametrize("most", [2, 5, 9])
def test_outputs_of_products(most: int) -> None:
    model = model_of(
        """g (float[N, 5, 8] x) => (float[N, 5, 4] y, float[M, 3] z) <int64[2] s = {-1, 4}>
        { [a] y = MatMul(x, w)  f = Reshape(y, s)  [b] z = Gemm <transB = 1> (f, v) }""",
        w=normal(8, 4),
        v=normal(3, 4, seed=1),
    )
    values = normal(3, 5, 8)
    found = outputs(model, {"x": values})
    sources = {"a": (values, found["y"]), "b": (found["y"].reshape(-1, 4), found["z"])}
    for name, (source, made) in sources.items():
        product = node(model, name)
        weight = query.constant(product, 1)
        assert weight is not None
        rows = inputs_of(product, source, most)
        expected = rows @ to_matrices(product, weight.values).transpose(0, 2, 1)
        np.testing.assert_allclose(outputs_of(product, made, most), expected, rtol=1e-4, atol=1e-4)
