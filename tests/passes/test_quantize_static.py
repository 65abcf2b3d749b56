from collections import Counter

import numpy as np
import onnx
import pytest

from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Variable
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeStatic
from onnxcompress.passes.quantize_static import ActivationType
from onnxcompress.quantization.observers import Observer
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.ort_profile import executed_ops, surviving_qdq
from onnxcompress.target import Target
from tests.helpers import exported, node, ops, outputs, parse, tensor

from .support import Array, apply, model_of, normal, opset, reasons, sqnr, stored_input

IMAGES = normal(16, 3, 8, 8)

CNN = """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  [c1] h1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)  [r1] h2 = Relu(h1)
  [c2] h3 = Conv <pads = [1, 1, 1, 1]> (h2, w2)  [add] h4 = Add(h3, h2)  [r2] h5 = Relu(h4)
  [pool] h6 = GlobalAveragePool(h5)  [flat] h7 = Flatten(h6)  [head] y = Gemm %s (h7, w3, b3) }"""
WEIGHTS = {
    "w1": normal(16, 3, 3, 3, seed=1),
    "b1": normal(16, seed=2),
    "w2": normal(16, 16, 3, 3, seed=3) / 10,
    "w3": normal(16, 5, seed=4),
    "b3": normal(5, seed=5),
}


def _cnn(flag: int = 0) -> Model:
    w3 = WEIGHTS["w3"].T.copy() if flag else WEIGHTS["w3"]
    return model_of(CNN % f"<transB = {flag}>", **{**WEIGHTS, "w3": w3})


def _activations(model: Model, names: list[str], data: Array = IMAGES) -> dict[str, Array]:
    """Float values of some tensors on the calibration data."""
    proto = exported(model)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return outputs(proto, {"x": data})


def _qparams(model: Model, source: str) -> tuple[float, int, np.dtype]:
    """Scale and zero point of the QuantizeLinear that reads the tensor `source`."""
    quantizer = next(r for r in tensor(model, source).outputs if r.op == "QuantizeLinear")
    scale, zero_point = quantizer.inputs[1:]
    assert isinstance(scale, Constant) and isinstance(zero_point, Constant)
    return float(scale.values), int(zero_point.values), zero_point.dtype


def _weight(model: Model, node_name: str, index: int = 1) -> tuple[Array, Array, int]:
    """Integers, scales and axis of the DequantizeLinear at a node's input."""
    dequantizer = node(model, node_name).inputs[index].inputs[0]
    assert dequantizer.op == "DequantizeLinear"
    integers, scale = dequantizer.inputs[:2]
    assert isinstance(integers, Constant) and isinstance(scale, Constant)
    return integers.values, scale.values, dequantizer.int_attr("axis", 1)


@pytest.mark.parametrize("flag", [0, 1])
def test_a_small_cnn_is_fused_whole(flag: int) -> None:
    model = _cnn(flag)
    before = outputs(model, {"x": IMAGES})["y"]
    report = apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert report.skips == ()
    assert Counter(ops(model)) == {
        "QuantizeLinear": 5,  # x, h2, h3, h5, h6
        "DequantizeLinear": 5 + 3 + 2,  # those (h7 for h6), three weights, two biases
        "Conv": 2,
        "Add": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    }
    raw = io.to_bytes(model)
    fused = executed_ops(raw)
    assert fused["QLinearConv"] == 2 and fused["QLinearAdd"] == 1 and fused["QGemm"] == 1
    assert fused["QLinearGlobalAveragePool"] == 1
    assert len(surviving_qdq(raw)) == 1  # the input's
    after = outputs(model, {"x": IMAGES})["y"]
    assert sqnr(before, after) > 30
    assert node(model, "flat").outputs[0].dtype == np.uint8


def test_scales_and_zero_points_are_those_of_float64() -> None:
    model = _cnn()
    seen = _activations(model, ["h2", "h3", "h5", "h6"])
    seen["x"] = IMAGES
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    readers = {"x": "x", "h2": "h1", "h3": "h3", "h5": "h4", "h6": "h6"}  # Relu has vanished
    for name, source in readers.items():
        low, high = min(float(seen[name].min()), 0.0), max(float(seen[name].max()), 0.0)
        expected = (high - low) / 255
        scale, zero_point, dtype = _qparams(model, source)
        np.testing.assert_allclose(scale, expected, rtol=1e-6)  # the runs differ in the last bit
        assert zero_point == round(-low / expected)
        assert dtype == np.uint8
    for name, conv, axis in (("w1", "c1", 0), ("w2", "c2", 0), ("w3", "head", 1)):
        integers, scales, stored_axis = _weight(model, conv)
        wide = WEIGHTS[name].astype(np.float64)
        largest = np.abs(wide).max(tuple(a for a in range(wide.ndim) if a != axis))
        np.testing.assert_allclose(scales, largest / 127, rtol=1e-7)
        spread = scales.reshape([-1 if a == axis else 1 for a in range(wide.ndim)])
        np.testing.assert_array_equal(integers, np.rint(WEIGHTS[name] / spread))
        assert integers.dtype == np.int8
        assert stored_axis == axis
    levels, scales, _ = _weight(model, "c1", 2)
    assert levels.dtype == np.int32
    np.testing.assert_allclose(levels * scales, WEIGHTS["b1"], atol=scales.max() / 2)


def test_every_value_is_within_one_level_of_integer_arithmetic() -> None:
    w, b = normal(4, 6, 1, 1, seed=1), normal(4, seed=2)
    data = normal(32, 6, 5, 5)
    model = model_of(
        "g (float[N, 6, 5, 5] x) => (float[N, 4, 5, 5] y) { [c] h = Conv(x, w, b)  y = Relu(h) }",
        w=w,
        b=b,
    )
    apply(QuantizeStatic(), model, data={"x": data})
    (sx, zx, _), (sy, zy, _) = _qparams(model, "x"), _qparams(model, "h")
    weight, sw, _ = _weight(model, "c")
    bias, sb, _ = _weight(model, "c", 2)
    np.testing.assert_array_equal(sb, np.float32(sx) * sw)
    levels = np.clip(np.rint(data / np.float32(sx)) + zx, 0, 255).astype(np.int64) - zx
    total = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0].astype(np.int64), levels)
    total += bias[:, None, None]
    real = total * (sx * sw.astype(np.float64) / sy)[:, None, None]
    expected = np.clip(np.rint(real) + zy, 0, 255)
    got = outputs(model, {"x": data})["y"].astype(np.float64) / sy + zy
    assert np.abs(got - expected).max() < 1.01
    assert np.mean(np.abs(got - expected) < 0.01) > 0.99
    assert expected.min() == 0 and expected.max() >= 254


@pytest.mark.parametrize(
    ("target", "activation", "limit"),
    [
        (Target.X86_VNNI, np.uint8, 127),
        (Target.X86_AVX2, np.uint8, 64),
        (Target.PORTABLE, np.uint8, 64),
        (Target.ARM64, np.int8, 127),
    ],
)
def test_targets(target: Target, activation: type, limit: int) -> None:
    model = _cnn()
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(), model, data={"x": IMAGES}, target=target)
    assert _qparams(model, "x")[2] == activation
    assert _qparams(model, "h1")[1] == np.iinfo(activation).min  # a Relu has vanished there
    assert {int(np.abs(_weight(model, name)[0]).max()) for name in ("c1", "c2", "head")} == {limit}
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


@pytest.mark.parametrize("kind", ActivationType)
def test_a_chosen_activation_type_beats_the_target(kind: ActivationType) -> None:
    model = _cnn()
    apply(QuantizeStatic(activations=kind), model, data={"x": IMAGES})
    assert _qparams(model, "x")[2] == (np.int8 if kind is ActivationType.INT8 else np.uint8)


def test_one_scale_for_a_whole_weight() -> None:
    model = _cnn()
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(per_channel=False), model, data={"x": IMAGES})
    integers, scale, _ = _weight(model, "c1")
    assert scale.shape == ()
    assert scale == np.float32(np.abs(WEIGHTS["w1"]).max() / 127)
    assert np.abs(integers).max() == 127
    assert _weight(model, "c1", 2)[1].shape == ()
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 25


def _with_an_outlier() -> Array:
    """One value in 50000 lies far from the others."""
    data = normal(256, 3, 8, 8)
    data[0, 0, 0, 0] = 60.0
    return data


@pytest.mark.parametrize("observer", Observer)
def test_observers(observer: Observer) -> None:
    data = _with_an_outlier()
    model = _cnn()
    apply(QuantizeStatic(observer=observer), model, data={"x": data})
    scale, zero_point, _ = _qparams(model, "x")
    low = float(data.min())
    if observer is Observer.MSE:  # cutting deep is not worth the outlier's squared error
        assert 30 / 255 < scale <= np.float32((60 - low) / 255)
    elif observer is Observer.MIN_MAX:
        assert scale == np.float32((60 - low) / 255)
        assert zero_point == round(-low / ((60 - low) / 255))
    else:
        assert 6 / 255 < scale < 20 / 255


def test_an_observer_for_one_op_type() -> None:
    data = _with_an_outlier()
    plain, chosen = _cnn(), _cnn()
    apply(QuantizeStatic(), plain, data={"x": data})
    override = Override(QuantizeStatic(observer=Observer.PERCENTILE), op_types=("Gemm",))
    apply(QuantizeStatic(overrides=(override,)), chosen, data={"x": data})
    assert _qparams(chosen, "x") == _qparams(plain, "x")
    assert _qparams(chosen, "h4") == _qparams(plain, "h4")


def test_an_override_reaches_the_input_of_its_node() -> None:
    data = _with_an_outlier()
    model = _cnn()
    override = Override(QuantizeStatic(observer=Observer.PERCENTILE), nodes=("c1",))
    apply(QuantizeStatic(overrides=(override,)), model, data={"x": data})
    assert _qparams(model, "x")[0] < 10 / 255


def test_excluding_a_node_leaves_its_neighbours_float_where_they_need_it() -> None:
    model = _cnn()
    before = outputs(model, {"x": IMAGES})["y"]
    pass_ = QuantizeStatic(overrides=(Override(None, nodes=("c2*",)),))
    report = apply(pass_, model, data={"x": IMAGES})
    assert reasons(report) == {
        "c2": EXCLUDED,
        "add": "reads 'h3', which stays float",
    }
    assert isinstance(node(model, "c2").inputs[1], Constant)
    # The pool reads float, so the head's input is quantized on its own.
    assert Counter(ops(model))["QuantizeLinear"] == 3
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


def test_a_float_prefix_stays_float() -> None:
    model = _cnn()
    report = apply(QuantizeStatic(float_prefix=1), model, data={"x": IMAGES})
    assert reasons(report)["c1"] == "float_prefix=1"
    assert isinstance(node(model, "c1").inputs[1], Constant)
    assert isinstance(node(model, "c2").inputs[1], Variable)


def test_a_shortcut_of_slice_and_pad_moves_integers() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 8, 4, 4] y)
          <int64[2] from = {0, 0}, int64[2] to = {8, 8}, int64[2] axes = {2, 3},
           int64[2] by = {2, 2}, int64[8] pads = {0, 2, 0, 0, 0, 2, 0, 0}> {
          h = Conv <pads = [1, 1, 1, 1]> (x, w1)  r = Relu(h)
          [slice] s = Slice(r, from, to, axes, by)  [pad] p = Pad(s, pads)
          m = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r, w2)
          a = Add(m, p)  t = Relu(a)  y = Conv(t, w3) }""",
        w1=normal(4, 3, 3, 3),
        w2=normal(8, 4, 3, 3, seed=1) / 6,
        w3=normal(8, 8, 1, 1, seed=2),
    )
    before = outputs(model, {"x": IMAGES})["y"]
    report = apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert report.skips == ()
    scale, zero_point, _ = _qparams(model, "h")
    for name in ("slice", "pad"):
        assert node(model, name).outputs[0].dtype == np.uint8
        reader = node(model, name).outputs[0].outputs[0]
        if reader.op == "DequantizeLinear":
            found = [t.values for t in reader.inputs[1:] if isinstance(t, Constant)]
            assert [float(found[0]), int(found[1])] == [scale, zero_point]
    assert stored_input(model, "pad", 2).dtype == np.uint8
    assert stored_input(model, "pad", 2) == zero_point
    assert len(surviving_qdq(io.to_bytes(model))) == 2  # the input's and the output's
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 25


def test_padding_in_the_middle_of_a_range() -> None:
    """Without a Relu the zero point is not zero, so filling with integer 0 would be wrong."""
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 10, 8] y)
          <int64[8] pads = {0, 0, 1, 0, 0, 0, 1, 0}> {
          h = Conv(x, w1)  [pad] p = Pad(h, pads)  y = Conv(p, w2) }""",
        w1=normal(4, 3, 1, 1),
        w2=normal(4, 4, 1, 1, seed=1),
    )
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert 100 < int(stored_input(model, "pad", 2)) < 156
    after = outputs(model, {"x": IMAGES})["y"]
    assert sqnr(before, after) > 30
    assert np.abs(after[:, :, 0]).max() < 0.05


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("Pad(r, p, five)", "pads with a value that the range of its input may not hold"),
        ("Pad(r, p, live)", "pads with a value that the range of its input may not hold"),
    ],
)
def test_padding_with_something_else_stays_float(call: str, reason: str) -> None:
    model = model_of(
        f"""g (float[N, 3, 8, 8] x, float live) => (float[N, 4, 9, 8] y) <float five = {{5}}> {{
          r = Conv(x, w1)  [pad] s = {call}  y = Conv(s, w2) }}""",
        w1=normal(4, 3, 1, 1),
        w2=normal(4, 4, 1, 1),
        p=np.array([0, 0, 1, 0, 0, 0, 0, 0]),
    )
    # `live` has no batch axis, so each sample is a feed of its own.
    before = outputs(model, {"x": IMAGES, "live": np.array(9, np.float32)})["y"]
    data = {"x": IMAGES, "live": np.array(9, np.float32)}
    report = apply(QuantizeStatic(), model, data=data)
    assert reasons(report) == {"pad": reason}
    after = outputs(model, data)["y"]
    assert sqnr(before, after) > 30


def test_a_max_pool_moves_and_its_indices_keep_it_float() -> None:
    text = """g (float[N, 3, 8, 8] x) => (float[N, 4, 4, 4] y, int64[N, 4, 4, 4] i) {
      h = Conv(x, w1)  [pool] p, j = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (h)
      y = Conv(p, w2)  i = Identity(j) }"""
    weights = {"w1": normal(4, 3, 1, 1), "w2": normal(4, 4, 1, 1, seed=1)}
    report = apply(QuantizeStatic(), model := model_of(text, **weights), data={"x": IMAGES})
    assert reasons(report) == {"pool": "its second output is read"}
    text = text.replace(", int64[N, 4, 4, 4] i", "").replace("p, j =", "p =")
    model = model_of(text.replace("i = Identity(j)", ""), **weights)
    before = outputs(model, {"x": IMAGES})["y"]
    assert apply(QuantizeStatic(), model, data={"x": IMAGES}).skips == ()
    assert node(model, "pool").outputs[0].dtype == np.uint8
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


def test_concat_joins_with_a_range_of_its_own() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) {
          a = Conv(x, w1)  b = Conv(x, w2)  [cat] c = Concat <axis = 1> (a, b, a)
          y = Conv(c, w3) }""",
        w1=normal(4, 3, 1, 1),
        w2=normal(2, 3, 1, 1, seed=1) * 9,
        w3=normal(4, 10, 1, 1, seed=2),
    )
    seen = _activations(model, ["c"])["c"]
    before = outputs(model, {"x": IMAGES})["y"]
    assert apply(QuantizeStatic(), model, data={"x": IMAGES}).skips == ()
    expected = (float(seen.max()) - float(seen.min())) / 255
    np.testing.assert_allclose(_qparams(model, "c")[0], expected, rtol=1e-6)
    assert executed_ops(io.to_bytes(model))["QLinearConcat"] == 1
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 25


@pytest.mark.parametrize("scale", [1, 40])
def test_a_clip_at_six_vanishes(scale: int) -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) <float low = {0}, float high = {6}> {
          h = Conv(x, w1)  [clip] c = Clip(h, low, high)  y = Conv(c, w2) }""",
        w1=normal(4, 3, 1, 1) * scale,
        w2=normal(4, 4, 1, 1, seed=1),
    )
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert "Clip" not in ops(model)
    quantized_scale, zero_point, _ = _qparams(model, "h")
    assert zero_point == 0
    assert quantized_scale <= np.float32(6 / 255)
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


def test_a_clip_whose_range_the_integers_exceed_stays() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) <float low = {1}, float high = {6}> {
          h = Conv(x, w1)  [clip] c = Clip(h, low, high)  y = Conv(c, w2) }""",
        w1=normal(4, 3, 1, 1) * 9,
        w2=normal(4, 4, 1, 1, seed=1),
    )
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert "Clip" in ops(model)  # zero must be an integer, so 0..1 would not be cut
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


def test_a_float_reader_of_a_convolution_reads_what_the_kernel_wrote() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y, float[N, 4, 8, 8] z) {
          h = Conv(x, w1)  [float] z = Sin(h)  y = Conv(h, w2) }""",
        w1=normal(4, 3, 1, 1),
        w2=normal(4, 4, 1, 1, seed=1),
    )
    before = outputs(model, {"x": IMAGES})
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert node(model, "float").inputs[0].inputs[0].op == "DequantizeLinear"
    assert executed_ops(io.to_bytes(model))["QLinearConv"] == 2
    assert sqnr(before["z"], outputs(model, {"x": IMAGES})["z"]) > 25


def test_a_float_reader_of_a_float_tensor_reads_it_unrounded() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y, float[N, 3, 8, 8] s) {
          [sin] s = Sin(x)  h = Conv(s, w1)  [sum] y = Add(h, s) }""",
        w1=normal(3, 3, 1, 1),
    )
    before = outputs(model, {"x": IMAGES})
    report = apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert reasons(report) == {"sum": "reads 's', which stays float"}
    after = outputs(model, {"x": IMAGES})
    np.testing.assert_array_equal(after["s"], before["s"])
    assert node(model, "sum").inputs[1] is tensor(model, "s")


def test_a_returned_convolution_keeps_its_name_and_type() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] h, float[N, 4, 8, 8] y) {
          h = Conv(x, w1)  y = Conv(h, w2) }""",
        w1=normal(4, 3, 1, 1),
        w2=normal(4, 4, 1, 1, seed=1),
    )
    before = outputs(model, {"x": IMAGES})
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    after = outputs(model, {"x": IMAGES})
    assert list(after) == ["h", "y"]
    for name in after:
        assert after[name].dtype == np.float32
        assert sqnr(before[name], after[name]) > 25


def test_an_input_that_a_body_reads_too() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y, float[N, 3, 8, 8] z) {
          m = ReduceMax <keepdims = 0> (x)  c = Cast <to = 9> (m)
          z = If (c) <
            then_branch = t () => (float[N, 3, 8, 8] r) { r = Neg(x) },
            else_branch = e () => (float[N, 3, 8, 8] s) { [inner] s = Conv(x, w2) }>
          y = Conv(x, w1) }""",
        w1=normal(4, 3, 1, 1),
        w2=normal(3, 3, 1, 1),
    )
    data = {"x": IMAGES}
    before = outputs(model, data)
    report = apply(QuantizeStatic(), model, data=data)
    assert reasons(report) == {
        "inner": "stands in a body (If, Loop, Scan), which cannot be calibrated"
    }
    after = outputs(model, data)
    np.testing.assert_array_equal(after["z"], before["z"])
    assert sqnr(before["y"], after["y"]) > 30


def test_a_dead_channel_with_a_large_bias_stays_right() -> None:
    w = normal(4, 3, 1, 1)
    w[1] = 1e-12
    w[2] = 0.0
    model = model_of(
        "g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { [c] y = Conv(x, w, b) }",
        w=w,
        b=np.float32([1, 5, -5, 0]),
    )
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    levels, scales, _ = _weight(model, "c", 2)
    assert np.abs(levels.astype(np.int64)).max() <= 1 << 30
    np.testing.assert_allclose((levels * scales)[1:], [5, -5, 0], atol=1e-6)
    after = outputs(model, {"x": IMAGES})["y"]
    assert np.abs(after - before).max() < 2 * (before.max() - before.min()) / 255


def test_a_dead_input_gives_the_bias() -> None:
    model = model_of(
        "g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { y = Conv(x, w, b) }",
        w=normal(4, 3, 1, 1),
        b=np.float32([1, 5, -5, 0]),
    )
    zeros = np.zeros_like(IMAGES)
    apply(QuantizeStatic(), model, data={"x": zeros})
    got = outputs(model, {"x": zeros})["y"][0, :, 0, 0]
    np.testing.assert_allclose(got, [1, 5, -5, 0], atol=0.05)


def test_a_weight_that_two_nodes_read_is_stored_once() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {
          [one] h = Conv(x, w)  [two] y = Conv(h, w) }""",
        w=normal(3, 3, 1, 1),
    )
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    one, two = (node(model, name).inputs[1].inputs[0] for name in ("one", "two"))
    assert one is not two  # each its own DequantizeLinear, so that onnxruntime fuses both
    assert one.inputs[0] is two.inputs[0]
    assert executed_ops(io.to_bytes(model))["QLinearConv"] == 2
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


def test_one_and_three_dimensions_groups_and_dilations() -> None:
    for dims, shape, call in (
        ("[N, 4, 9]", (6, 4, 3), "Conv <pads = [1, 1]> (x, w)"),
        ("[N, 4, 4, 4, 4]", (6, 4, 2, 2, 2), "Conv(x, w)"),
        ("[N, 4, 9, 9]", (4, 1, 3, 3), "Conv <group = 4, dilations = [2, 2]> (x, w)"),
        ("[N, 4, 9, 9]", (6, 2, 3, 3), "Conv <group = 2, strides = [2, 1]> (x, w)"),
    ):
        out = "[" + ", ".join("abcde"[: dims.count(",") + 1]) + "]"
        model = model_of(f"g (float{dims} x) => (float{out} y) {{ y = {call} }}", w=normal(*shape))
        sizes = [16 if axis.strip() == "N" else int(axis) for axis in dims[1:-1].split(",")]
        data = normal(*sizes)
        before = outputs(model, {"x": data})["y"]
        assert apply(QuantizeStatic(), model, data={"x": data}).skips == ()
        assert sqnr(before, outputs(model, {"x": data})["y"]) > 30


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[n] y = ConvTranspose(x, w)", "onnxruntime has no integer ConvTranspose"),
        ("[n] y = Conv(x, live)", "its weight is not stored"),
        ("[n] y = Conv(x, w, bias)", "its bias is not stored"),
        ("[n] y = Conv(x, nan)", "its weight holds NaN or infinite values"),
        ("[n] y = MatMul(x, stack)", "its weight is a stack of matrices"),
        ("[n] y = MatMul(x, x)", "its weight is not stored"),
        ("[n] y = MatMul(x, vector)", "its weight is float32 [8]"),
        ("[n] h = MatMul(v8, w8)  y = Add(x, h)", "its input is stored, not computed"),
        ("f = Flatten(x)  [n] y = Gemm <alpha = 0.5> (f, g)", "scales or transposes its input"),
        ("f = Flatten(x)  [n] y = Gemm <beta = 0.5> (f, g, gb)", "scales or transposes its input"),
        ("f = Flatten(x)  [n] y = Gemm(f, g, gm)", "its bias [16, 2] is not one value a channel"),
    ],
)
def test_candidates_that_stay_float_are_told(body: str, reason: str) -> None:
    model = model_of(
        f"g (float[N, 3, 8, 8] x, float[3, 3, 1, 1] live, float[3] bias) => (float y) {{ {body} }}",
        w=normal(3, 3, 1, 1),
        nan=np.full((3, 3, 1, 1), np.nan, np.float32),
        stack=normal(3, 8, 8),
        vector=normal(8),
        v8=normal(8, 8),
        w8=normal(8, 8),
        g=normal(192, 2),
        gb=normal(2),
        gm=normal(16, 2),
    )
    edit = Editor(model)
    QuantizeStatic().run(
        model, edit, RuntimeContext()
    )  # nothing to quantize, so no data are needed
    assert not edit.changes
    assert [(s.node, s.reason[: len(reason)]) for s in edit.skips] == [("n", reason)]


def test_recurrent_nodes_are_told() -> None:
    weights = {"w": normal(1, 16, 3), "r": normal(1, 16, 4), "g": normal(1, 12, 3)}
    weights["s"] = normal(1, 12, 4)
    model = model_of(
        """g (float[S, 2, 3] x) => (float y, float z) {
          [lstm] y = LSTM <hidden_size = 4> (x, w, r)
          [gru] z = GRU <hidden_size = 4> (x, g, s) }""",
        **weights,
    )
    report = apply(QuantizeStatic(), model, data={"x": normal(5, 2, 3)})
    reason = "onnxruntime has no integer kernel for it"
    assert reasons(report) == {"lstm": reason, "gru": reason}


def test_a_join_that_nothing_integer_reads_stays_float() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) {
          a = Conv(x, w1)  b = Conv(x, w2)  [sum] y = Add(a, b) }""",
        w1=normal(4, 3, 1, 1),
        w2=normal(4, 3, 1, 1, seed=1),
    )
    report = apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert reasons(report) == {"sum": "nothing that runs on integers reads its result"}


def test_products_of_a_transformer_give_floats() -> None:
    model = model_of(
        """g (float[N, 5, 8] x) => (float[N, 5, 8] y) {
          h = MatMul(x, w1)  i = Add(h, b)  r = Relu(i)  j = MatMul(r, w2)  y = Add(j, x) }""",
        w1=normal(8, 16),
        b=normal(16),
        w2=normal(16, 8, seed=1),
    )
    data = {"x": normal(16, 5, 8)}
    before = outputs(model, data)["y"]
    apply(QuantizeStatic(), model, data=data)
    assert Counter(ops(model))["QuantizeLinear"] == 2
    fused = executed_ops(io.to_bytes(model))
    assert fused["MatMulIntegerToFloat"] == 2
    assert sqnr(before, outputs(model, data)["y"]) > 30


@pytest.mark.parametrize("version", [9, 11])
def test_old_models_are_raised(version: int) -> None:
    model = model_of(opset(version) + CNN % "", **WEIGHTS)
    before = outputs(model, {"x": IMAGES})["y"]
    report = apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert model.opset == 13
    assert "raised from opset" in report.changes[0].detail
    assert len(surviving_qdq(io.to_bytes(model))) == 1
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 30


def test_the_long_spelling_of_the_standard_domain() -> None:
    model = model_of(
        "g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { h = ai.onnx.Conv(x, w)  y = Relu(h) }",
        w=normal(4, 3, 1, 1),
    )
    assert apply(QuantizeStatic(), model, data={"x": IMAGES}).modified


def test_without_data_it_says_what_it_wants() -> None:
    with pytest.raises(PassError, match=r"quantize-static.*calibration data"):
        PassManager([QuantizeStatic()]).run(_cnn())


def test_nothing_to_quantize() -> None:
    model = parse("g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu(x) }")
    report = apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert not report.modified
    assert report.skips == ()
