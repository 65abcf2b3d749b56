from collections import Counter

import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.ir.model import Constant, Variable
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import QuantizeStatic
from onnxcompress.runtime.ort_profile import executed_ops, surviving_qdq
from tests.helpers import node, ops, outputs, tensor
from tests.passes.static_cnn import IMAGES, activations_of, cnn, qparams_of

from .support import apply, model_of, normal, reasons, sqnr, stored_input


def test_excluding_a_node_leaves_its_neighbours_float_where_they_need_it() -> None:
    model = cnn()
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
    model = cnn()
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
    scale, zero_point, _ = qparams_of(model, "h")
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
    seen = activations_of(model, ["c"])["c"]
    before = outputs(model, {"x": IMAGES})["y"]
    assert apply(QuantizeStatic(), model, data={"x": IMAGES}).skips == ()
    expected = (float(seen.max()) - float(seen.min())) / 255
    np.testing.assert_allclose(qparams_of(model, "c")[0], expected, rtol=1e-6)
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
    quantized_scale, zero_point, _ = qparams_of(model, "h")
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


@pytest.mark.parametrize("excluded", [False, True])
def test_an_activation_that_is_excluded_does_not_vanish(excluded: bool) -> None:
    model = cnn()
    overrides = (Override(None, nodes=("r1",)),) if excluded else ()
    report = apply(QuantizeStatic(overrides=overrides), model, data={"x": IMAGES})
    assert ("r1" in {each.name for each in model.graph.nodes}) is excluded
    assert (reasons(report).get("r1") == EXCLUDED) is excluded
    low = activations_of(cnn(), ["h1"])["h1"].min()
    scale, zero_point, _ = qparams_of(model, "h1")
    assert -zero_point * scale == (pytest.approx(low, abs=scale) if excluded else 0)
