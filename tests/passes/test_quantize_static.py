from collections import Counter

import numpy as np
import pytest

from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeStatic
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.ort_profile import executed_ops, surviving_qdq
from tests.helpers import node, ops, outputs, parse
from tests.passes.static_cnn import CNN, IMAGES, WEIGHTS, activations_of, cnn, qparams_of, weight_of

from .support import apply, model_of, normal, opset, reasons, sqnr


@pytest.mark.parametrize("flag", [0, 1])
def test_a_small_cnn_is_fused_whole(flag: int) -> None:
    model = cnn(flag)
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
    model = cnn()
    seen = activations_of(model, ["h2", "h3", "h5", "h6"])
    seen["x"] = IMAGES
    apply(QuantizeStatic(), model, data={"x": IMAGES})
    readers = {"x": "x", "h2": "h1", "h3": "h3", "h5": "h4", "h6": "h6"}  # Relu has vanished
    for name, source in readers.items():
        low, high = min(float(seen[name].min()), 0.0), max(float(seen[name].max()), 0.0)
        expected = (high - low) / 255
        scale, zero_point, dtype = qparams_of(model, source)
        np.testing.assert_allclose(scale, expected, rtol=1e-6)  # the runs differ in the last bit
        assert zero_point == round(-low / expected)
        assert dtype == np.uint8
    for name, conv, axis in (("w1", "c1", 0), ("w2", "c2", 0), ("w3", "head", 1)):
        integers, scales, stored_axis = weight_of(model, conv)
        wide = WEIGHTS[name].astype(np.float64)
        largest = np.abs(wide).max(tuple(a for a in range(wide.ndim) if a != axis))
        np.testing.assert_allclose(scales, largest / 127, rtol=1e-7)
        spread = scales.reshape([-1 if a == axis else 1 for a in range(wide.ndim)])
        np.testing.assert_array_equal(integers, np.rint(WEIGHTS[name] / spread))
        assert integers.dtype == np.int8
        assert stored_axis == axis
    levels, scales, _ = weight_of(model, "c1", 2)
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
    (sx, zx, _), (sy, zy, _) = qparams_of(model, "x"), qparams_of(model, "h")
    weight, sw, _ = weight_of(model, "c")
    bias, sb, _ = weight_of(model, "c", 2)
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


def test_one_scale_for_a_whole_weight() -> None:
    model = cnn()
    before = outputs(model, {"x": IMAGES})["y"]
    apply(QuantizeStatic(per_channel=False), model, data={"x": IMAGES})
    integers, scale, _ = weight_of(model, "c1")
    assert scale.shape == ()
    assert scale == np.float32(np.abs(WEIGHTS["w1"]).max() / 127)
    assert np.abs(integers).max() == 127
    assert weight_of(model, "c1", 2)[1].shape == ()
    assert sqnr(before, outputs(model, {"x": IMAGES})["y"]) > 25


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
    levels, scales, _ = weight_of(model, "c", 2)
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
        PassManager([QuantizeStatic()]).run(cnn())


def test_nothing_to_quantize() -> None:
    model = parse("g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Relu(x) }")
    report = apply(QuantizeStatic(), model, data={"x": IMAGES})
    assert not report.modified
    assert report.skips == ()
