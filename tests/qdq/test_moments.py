import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.qdq import moments
from onnxcompress.qdq.moments import input_moments
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import node
from tests.passes.support import model_of, normal

X = normal(20, 5, 8)


def _case() -> tuple[Model, RuntimeContext]:
    model = model_of(
        """g (float[N, 5, 8] x) => (float[N, 5, 4] y, float[N, 5, 4] z, float[N, 5, 3] u) {
          [a] y = MatMul(x, w)  [b] z = MatMul(x, v)  h = Relu(y)  [c] u = MatMul(h, s) }""",
        w=normal(8, 4),
        v=normal(8, 4, seed=1),
        s=normal(4, 3),
    )
    return model, RuntimeContext(dataset_of({"x": X}, Session(io.to_bytes(model)).inputs))


@pytest.mark.parametrize("held", [1, 8 * 64, 1 << 20])
def test_moments_are_those_of_the_inputs_however_they_are_portioned(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "_BYTES_AT_ONCE", held)
    model, context = _case()
    nodes = [node(model, name) for name in "abc"]
    portions = list(input_moments(model, nodes, context, positions=4))
    assert [[each.name for each in portion] for portion in portions] == (
        [["a", "b", "c"]] if held > 8 * 64 else [["a", "b"], ["c"]]
    )
    seen = {each: found for portion in portions for each, found in portion.items()}
    assert seen[nodes[0]] is seen[nodes[1]]  # they read one tensor
    rows = X[:, :4].reshape(-1, 8).astype(np.float64)
    hidden = np.maximum(rows @ normal(8, 4), 0)
    for product, expected in ((nodes[0], rows), (nodes[2], hidden)):
        assert seen[product].count == 80
        second = expected.T @ expected / 80
        np.testing.assert_allclose(seen[product].second[0], second, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen[product].mean[0], expected.mean(0), atol=1e-5)
