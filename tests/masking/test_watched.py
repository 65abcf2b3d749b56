import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.watched import input_rms, second_moments, why_not_watched
from onnxcompress.masking.weights import PrunableWeight, prunable_weights
from onnxcompress.passes import PruneWeights
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.passes.support import Array, model_of, normal

X = normal(20, 5, 8) * np.arange(8, dtype=np.float32)


def _weights(model: Model) -> dict[str, PrunableWeight]:
    found = prunable_weights(model, Editor(model), PruneWeights().at)
    return {weight.constant.name: weight for weight, _ in found}


def _context(model: Model, **data: Array) -> RuntimeContext:
    return RuntimeContext(dataset_of(data, Session(io.to_bytes(model)).inputs))


def test_all_readers_of_a_weight_count() -> None:
    model = model_of(
        """g (float[N, 5, 8] x) => (float[N, 5, 8] y, float[N, 5, 4] z) {
          h = MatMul(x, w)  y = MatMul(h, w)  z = MatMul(x, v) }""",
        w=normal(8, 8),
        v=normal(8, 4, seed=1),
    )
    weights, context = _weights(model), _context(model, x=X)
    rows = X.reshape(-1, 8).astype(np.float64)
    both = np.concatenate([rows, rows @ normal(8, 8)])
    rms = input_rms(model, list(weights.values()), context)
    moments = dict(second_moments(model, list(weights.values()), context))
    assert rms.keys() == moments.keys() == set(weights.values())
    for name, seen in (("w", both), ("v", rows)):
        expected = np.sqrt(np.square(seen).mean(axis=0))
        np.testing.assert_allclose(rms[weights[name]][0], expected, rtol=1e-4)
        second = seen.T @ seen / len(seen)
        np.testing.assert_allclose(
            moments[weights[name]][0], second, rtol=1e-4, atol=1e-5 * second.max()
        )


def test_a_convolution_in_groups() -> None:
    model = model_of(
        "g (float[N, 4, 6, 6] x) => (float y) { y = Conv <group = 2, strides = [2, 2]> (x, w) }",
        w=normal(2, 2, 2, 2),
    )
    images = normal(3, 4, 6, 6) + 1
    (weight,) = _weights(model).values()
    rms = input_rms(model, [weight], _context(model, x=images))[weight]
    corners = images.reshape(3, 2, 2, 3, 2, 3, 2).astype(np.float64)  # n, g, c, y, ky, x, kx
    expected = np.sqrt(np.square(corners).mean(axis=(0, 3, 5))).reshape(2, 8)
    np.testing.assert_allclose(rms, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "shape", "told"),
    [
        ("y = ConvTranspose(x, w)", (4, 2, 1, 1), "spreads its inputs over overlapping outputs"),
        ("f = Flatten(x)  y = Gemm <transA = 1> (f, w)", (1, 3), "transposes its input (transA)"),
        ("y = MatMul(x, w)", (4, 6, 2), "its weight [4, 6, 2] is not one matrix"),
        ("y = Conv(v, w)", (2, 4, 1, 1), "its input is stored, not computed"),
        (
            "y = If (c) < then_branch = t () => (float p) { p = Conv(x, w) },"
            " else_branch = e () => (float q) { q = Relu(x) }>",
            (2, 4, 1, 1),
            "stands in a body (If, Loop, Scan), whose tensors cannot be watched",
        ),
        (
            "s = Squeeze(x, one)  y, last = RNN <hidden_size = 2> (s, w, r)",
            (1, 2, 6),
            "what RNN multiplies its weights with at each step cannot be watched",
        ),
        ("y = Conv(x, w)", (2, 4, 1, 1), None),
    ],
)
def test_what_cannot_be_watched(call: str, shape: tuple[int, ...], told: str | None) -> None:
    model = model_of(
        f"g (float[1, 4, 6, 6] x, bool c) => (float y) {{ {call} }}",
        w=normal(*shape),
        r=normal(1, 2, 2),
        v=normal(1, 4, 6, 6),
        one=np.array([0]),
    )
    weight = _weights(model)["w"]
    assert why_not_watched(weight, set(model.graph.nodes)) == told


def test_only_float32_inputs_are_watched() -> None:
    model = model_of(
        "g (float16[1, 4] x) => (float16[1, 2] y) { y = MatMul(x, w) }",
        w=normal(4, 2).astype(np.float16),
    )
    (weight,) = _weights(model).values()
    told = why_not_watched(weight, set(model.graph.nodes))
    assert told == "'w' is float16; float32 inputs are watched"
