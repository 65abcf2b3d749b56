import numpy as np
import pytest

from onnxcompress.pass_base import Override
from onnxcompress.passes import QuantizeStatic
from onnxcompress.passes.quantize_static import ActivationType
from onnxcompress.qdq.weight_grid import in_kernel_order
from onnxcompress.quantization.granularity import PerChannel
from onnxcompress.quantization.observers import Observer
from onnxcompress.quantization.qparams import dequantize, quantize, symmetric_qparams
from onnxcompress.quantization.saturation import PAIR_LIMIT, pair_sums
from onnxcompress.target import INT8_TRAITS, Target
from tests.helpers import node, outputs
from tests.passes.static_cnn import CNN, IMAGES, WEIGHTS, cnn, qparams_of, weight_of

from .support import Array, apply, model_of, normal, reasons, sqnr


@pytest.mark.parametrize(
    ("target", "activation"),
    [
        (Target.X86_VNNI, np.uint8),
        (Target.X86_AVX2, np.uint8),
        (Target.PORTABLE, np.uint8),
        (Target.ARM64, np.int8),
    ],
)
def test_targets(target: Target, activation: type) -> None:
    model = cnn()
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(), model, data={"x": IMAGES}, target=target)
    assert qparams_of(model, "x")[2] == activation
    assert qparams_of(model, "h1")[1] == np.iinfo(activation).min  # a Relu has vanished there
    for name in ("c1", "c2", "head"):
        levels = weight_of(model, name)[0]
        largest = int(pair_sums(in_kernel_order(node(model, name), levels)).max())
        if INT8_TRAITS[target].pairs_saturate:
            assert PAIR_LIMIT - 2 <= largest <= PAIR_LIMIT
        else:
            assert np.abs(levels).max() == 127 and largest > PAIR_LIMIT
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


@pytest.mark.parametrize("kind", ActivationType)
def test_a_chosen_activation_type_beats_the_target(kind: ActivationType) -> None:
    model = cnn()
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(activations=kind), model, data={"x": IMAGES})
    expected = "uint8" if kind is ActivationType.AUTO else kind.value
    assert qparams_of(model, "x")[2] == np.dtype(expected)
    assert QuantizeStatic(activations=kind).required_opset() == (21 if kind.is_wide else 13)
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


def test_activations_of_16_bits_lose_next_to_nothing_but_what_the_weights_lose() -> None:
    floats = {name: array.astype(np.float32) for name, array in WEIGHTS.items()}
    for name, axis in (("w1", 0), ("w2", 0), ("w3", 1)):
        qparams = symmetric_qparams(floats[name], PerChannel(axis))
        floats[name] = dequantize(quantize(floats[name], qparams), qparams)
    expected = outputs(model_of(CNN % "<transB = 0>", **floats), {"x": IMAGES})["y"]
    model = cnn()
    apply(QuantizeStatic(activations=ActivationType.INT16), model, data={"x": IMAGES})
    assert sqnr(expected, outputs(model, {"x": IMAGES})["y"]) > 75


def test_moves_without_a_16_bit_kernel_stay_float() -> None:
    model = model_of(
        """g (float[N, 6, 8, 8] x) => (float[N, 4, 4, 4] y) {
          a = Conv(x, w)  [pool] b = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
          y = Conv(b, v) }""",
        w=normal(6, 6, 1, 1),
        v=normal(4, 6, 1, 1, seed=1),
    )
    data = normal(8, 6, 8, 8)
    report = apply(QuantizeStatic(activations=ActivationType.UINT16), model, data={"x": data})
    assert reasons(report) == {"pool": "onnxruntime has no kernel for it on 16-bit integers"}


def _with_an_outlier() -> Array:
    """One value in 50000 lies far from the others."""
    data = normal(256, 3, 8, 8)
    data[0, 0, 0, 0] = 60.0
    return data


@pytest.mark.parametrize("observer", Observer)
def test_observers(observer: Observer) -> None:
    data = _with_an_outlier()
    model = cnn()
    apply(QuantizeStatic(observer=observer), model, data={"x": data})
    scale, zero_point, _ = qparams_of(model, "x")
    low = float(data.min())
    if observer in (
        Observer.MSE,
        Observer.OUTPUT_ERROR,
    ):  # cutting deep is not worth the outlier's squared error
        assert 30 / 255 < scale <= np.float32((60 - low) / 255)
    elif observer is Observer.MIN_MAX:
        assert scale == np.float32((60 - low) / 255)
        assert zero_point == round(-low / ((60 - low) / 255))
    else:
        assert 6 / 255 < scale < 20 / 255


def test_an_observer_for_one_op_type() -> None:
    data = _with_an_outlier()
    plain, chosen = cnn(), cnn()
    apply(QuantizeStatic(), plain, data={"x": data})
    override = Override(QuantizeStatic(observer=Observer.PERCENTILE), op_types=("Gemm",))
    apply(QuantizeStatic(overrides=(override,)), chosen, data={"x": data})
    assert qparams_of(chosen, "x") == qparams_of(plain, "x")
    assert qparams_of(chosen, "h4") == qparams_of(plain, "h4")


def test_an_override_reaches_the_input_of_its_node() -> None:
    data = _with_an_outlier()
    model = cnn()
    override = Override(QuantizeStatic(observer=Observer.PERCENTILE), nodes=("c1",))
    apply(QuantizeStatic(overrides=(override,)), model, data={"x": data})
    assert qparams_of(model, "x")[0] < 10 / 255
