import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeStatic, RoundAdaptively
from onnxcompress.qdq.weight_grid import grid_bounds, in_kernel_order
from onnxcompress.quantization.granularity import PER_TENSOR
from onnxcompress.quantization.qparams import dequantize, quantize, symmetric_qparams
from onnxcompress.quantization.saturation import PAIR_LIMIT, pair_sums
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.target import INT8_TRAITS, Target
from tests.helpers import node, outputs

from .support import Array, apply, model_of, normal, reasons, sqnr, stored_input

# Neighbouring pixels and channels that go together, as in pictures: what rounding can make use of.
IMAGES = (normal(12, 1, 8, 8) + normal(12, 3, 8, 8, seed=8) / 4).astype(np.float32)
SIZES = np.exp(normal(8, seed=9) * 1.5)

CNN = """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  [stem] h1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)  h2 = Relu(h1)
  [depthwise] h3 = Conv <group = 8, auto_pad = "SAME_UPPER", strides = [2, 2]> (h2, w2, b2)
  h4 = Relu(h3)  [grouped] h5 = Conv <group = 2> (h4, w3, b3)  h6 = Flatten(h5)
  [head] y = Gemm <transB = 1> (h6, w4, b4) }"""
WEIGHTS = {
    "w1": normal(8, 3, 3, 3, seed=1) * SIZES.reshape(-1, 1, 1, 1),
    "b1": normal(8, seed=2),
    "w2": normal(8, 1, 3, 3, seed=3) / SIZES.reshape(-1, 1, 1, 1),
    "b2": normal(8, seed=4),
    "w3": normal(6, 4, 1, 1, seed=5),
    "b3": normal(6, seed=6),
    "w4": normal(5, 96, seed=7),
    "b4": normal(5, seed=8),
}
WEIGHTED = {"stem": "w1", "depthwise": "w2", "grouped": "w3", "head": "w4"}


def _floats() -> dict[str, Array]:
    return {name: array.astype(np.float32) for name, array in WEIGHTS.items()}


def _cnn() -> Model:
    return model_of(CNN, **_floats())


def _levels(model: Model, name: str) -> tuple[Array, Array]:
    dequantizer = node(model, name).inputs[1].inputs[0]
    integers, scale = dequantizer.inputs[:2]
    assert isinstance(integers, Constant) and isinstance(scale, Constant)
    return integers.values, scale.values


def _context(model: Model, target: Target = Target.X86_VNNI) -> RuntimeContext:
    return RuntimeContext(
        dataset_of({"x": IMAGES}, Session(io.to_bytes(model)).inputs), target=target
    )


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("target", [Target.X86_VNNI, Target.X86_AVX2])
def test_quantize_static_stores_the_integers_chosen_here(per_channel: bool, target: Target) -> None:
    model, plain = _cnn(), _cnn()
    report = apply(
        RoundAdaptively(per_channel=per_channel), model, data={"x": IMAGES}, target=target
    )
    assert report.skips == ()
    chosen = {name: stored_input(model, name, 1) for name in WEIGHTED}
    static = QuantizeStatic(per_channel=per_channel)
    for each in (model, plain):
        PassManager([static]).run(each, _context(each, target))
    moved = 0
    for name, values in chosen.items():
        levels, scale = _levels(model, name)
        assert levels.dtype == np.int8
        nearest, plain_scale = _levels(plain, name)
        np.testing.assert_array_equal(scale, plain_scale)  # to the last bit
        spread = scale.reshape([-1] + [1] * (values.ndim - 1)) if scale.ndim else scale
        free = grid_bounds(node(model, name), values / spread, INT8_TRAITS[target]).free
        np.testing.assert_array_equal((levels * spread)[free], values[free])
        np.testing.assert_array_equal(levels[~free], np.rint(values / spread)[~free])
        largest = int(pair_sums(in_kernel_order(node(model, name), levels)).max())
        if target is Target.X86_AVX2 and name != "depthwise":
            assert largest <= PAIR_LIMIT
        else:
            assert np.abs(levels.astype(int)).max() == 127
        moved += int((levels != nearest).sum())
    assert moved > 50


@pytest.mark.parametrize("sizes", [np.ones(8), SIZES])
def test_outputs_lose_less_than_with_nearest_rounding(sizes: Array) -> None:
    text = "g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) { [c] y = Conv(x, w, b) }"
    bias = normal(8)
    weight = (normal(8, 3, 3, 3, seed=1) * sizes.reshape(-1, 1, 1, 1)).astype(np.float32)
    qparams = symmetric_qparams(weight, PER_TENSOR)
    nearest = dequantize(quantize(weight, qparams), qparams)
    before = outputs(model := model_of(text, w=weight, b=bias), {"x": IMAGES})["y"]
    plain = outputs(model_of(text, w=nearest, b=bias), {"x": IMAGES})["y"]
    apply(RoundAdaptively(per_channel=False), model, data={"x": IMAGES})
    after = outputs(model, {"x": IMAGES})["y"]
    assert sqnr(before, after) > sqnr(before, plain) + 3


def test_the_bias_takes_up_the_mean_error() -> None:
    text = "g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { [c] y = Conv(x, w, b) }"
    data = IMAGES + 5
    model = model_of(text, w=normal(4, 3, 1, 1), b=normal(4, seed=1))
    before = outputs(model, {"x": data})["y"].astype(np.float64)
    apply(RoundAdaptively(per_channel=False), model, data={"x": data})
    error = outputs(model, {"x": data})["y"] - before
    np.testing.assert_allclose(error.mean((0, 2, 3)), 0, atol=2e-6)
    assert np.abs(error).max() > 1e-4


def test_a_product_without_bias_and_one_with_a_bias_of_one_number() -> None:
    model = model_of(
        """g (float[N, 5, 8] x) => (float[N, 6] y) {
          [product] h = MatMul(x, w)  f = Flatten(h)  [head] y = Gemm(f, v, b) }""",
        w=normal(8, 4),
        v=normal(20, 6, seed=1),
        b=np.ones(1, np.float32),
    )
    data = normal(20, 5, 1) + normal(20, 5, 8, seed=1) / 4
    before = outputs(model, {"x": data})["y"]
    assert apply(RoundAdaptively(), model, data={"x": data}).skips == ()
    assert stored_input(model, "head", 2).shape == (6,)
    assert sqnr(before, outputs(model, {"x": data})["y"]) > 38


def test_what_is_left_alone_is_told() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {
          live = Identity(u)
          [one] a = Conv(x, w)  [two] b = Conv(a, w)  [wide] c = Conv <pads = [1, 1, 1, 1]> (b, v)
          [live] d = Conv(c, live)  [mine] y = Conv(d, u) }""",
        w=normal(3, 3, 1, 1),
        v=normal(3, 3, 3, 3),
        u=normal(3, 3, 1, 1, seed=1),
    )
    pass_ = RoundAdaptively(max_features=26, overrides=(Override(None, nodes=("mine",)),))
    report = apply(pass_, model, data={"x": IMAGES})
    assert not report.modified
    assert reasons(report) == {
        "one": "'w' has other readers",
        "two": "'w' has other readers",
        "wide": "27 features > max_features=26",
        "live": "its weight is not stored",
        "mine": EXCLUDED,
    }


def test_without_data_it_says_what_it_wants() -> None:
    with pytest.raises(PassError, match=r"round-adaptively.*calibration data"):
        PassManager([RoundAdaptively()]).run(_cnn())
