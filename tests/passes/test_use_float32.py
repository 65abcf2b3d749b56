"""Models in float16, bfloat16 and double, computed in float32 with the inputs and outputs kept."""

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper

from onnxcompress.ir import elements
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import ConvertFloat, QuantizeDynamic, QuantizeStatic, UseFloat32
from tests.helpers import exported, ops, outputs, proto

from .support import apply, model_of, normal, reasons, stored

W, U = normal(64, 96) / 8, normal(96, 64, seed=1) / 8
X = normal(5, 64, seed=2)
TYPES = {"float16": np.float16, "double": np.float64}


def _mlp(kind: str) -> Model:
    text = (
        f"g ({kind}[N, 64] x) => ({kind}[N, 64] y, {kind}[N, 96] h) "
        "{ [up] h = MatMul(x, w)  r = Relu(h)  [down] y = MatMul(r, u) }"
    )
    return model_of(text, w=W.astype(TYPES[kind]), u=U.astype(TYPES[kind]))


@pytest.mark.parametrize("kind", TYPES)
def test_float32_inside_and_the_old_type_at_the_ends(kind: str) -> None:
    model, x = _mlp(kind), {"x": X.astype(TYPES[kind])}
    before = outputs(model, x)
    apply(UseFloat32(), model)
    assert ops(model) == ["Cast", "MatMul", "Cast", "Relu", "MatMul", "Cast"]
    assert {each.dtype.name for each in stored(model).values()} == {"float32"}
    after = outputs(model, x)
    for name, values in before.items():
        assert after[name].dtype == values.dtype == TYPES[kind]
        np.testing.assert_allclose(after[name], values, atol=2e-3 * np.abs(values).max())
    named = {each.name: each.type.tensor_type.elem_type for each in exported(model).graph.output}
    assert named == {"y": elements.type_of(np.dtype(TYPES[kind]))} | {"h": named["y"]}


def test_float32_models_are_left_alone() -> None:
    """Doubles that are no weights count positions, say, and stay."""
    model = model_of(
        "g (float[N, 64] x) => (float[N, 96] y) "
        "{ d = Cast <to = 11> (x)  e = Mul(d, s)  f = Cast <to = 1> (e)  y = MatMul(f, w) }",
        w=W,
        s=np.array(2.0),
    )
    assert not apply(UseFloat32(), model).modified


def test_casts_between_the_floats_vanish_and_typed_nodes_give_float32() -> None:
    """Half exports keep a few nodes in float32, between Casts."""
    model = model_of(
        """g (float16[N, 64] x) => (float16[N, 96] y) {
          h = MatMul(x, w)  wide = Cast <to = 1> (h)  s = Softmax(wide)  n = Cast <to = 10> (s)
          shape = Shape(n)  zeros = ConstantOfShape(shape)
          m = Mul(n, zeros)  like = CastLike(shape, m)  total = ReduceSum(like)
          y = Add(m, total) }""",
        w=W.astype(np.float16),
    )
    filled = next(each for each in model.graph.nodes if each.op == "ConstantOfShape")
    Editor(model).set_attribute(filled, "value", numpy_helper.from_array(np.float16([2])))
    x = {"x": X.astype(np.float16)}
    before = outputs(model, x)["y"]
    apply(UseFloat32(), model)
    assert ops(model).count("Cast") == 2
    after = outputs(model, x)["y"]
    assert after.dtype == np.float16
    np.testing.assert_allclose(after, before, rtol=2e-3)


def test_branches_and_loops() -> None:
    model = model_of(
        """g (float16[2, 64] x, bool c, int64 n) => (float16[2, 64] y) {
          h = MatMul(x, w)
          b = If (c) <
            then_branch = then () => (float16[2, 96] p) { p = Relu(h) },
            else_branch = other () => (float16[1, 96] q) { q = Identity(k) }
          >
          r = MatMul(b, u)
          y = Loop (n, c, r) <
            body = step (int64 i, bool on, float16[2, 64] state) => (bool more, float16[2, 64] next)
            { more = Identity(on)  next = Add(state, x) }
          > }""",
        w=W.astype(np.float16),
        u=U.astype(np.float16),
        k=normal(1, 96).astype(np.float16),
    )
    x = X[:2].astype(np.float16)
    feeds = [{"x": x, "c": np.array(on), "n": np.array(3)} for on in (True, False)]
    before = [outputs(model, feed)["y"] for feed in feeds]
    apply(UseFloat32(), model)
    for feed, values in zip(feeds, before, strict=True):
        after = outputs(model, feed)["y"]
        assert after.dtype == np.float16
        np.testing.assert_allclose(after, values, atol=4e-3 * np.abs(values).max())


def test_stored_bfloat16_read_through_a_cast_is_computed_in_float32_already() -> None:
    model = model_of(
        "g (float[N, 64] x) => (float[N, 96] y) { v = Cast <to = 1> (w)  y = MatMul(x, v) }",
        w=W.astype(ml_dtypes.bfloat16),
    )
    assert not apply(UseFloat32(), model).modified


def test_bfloat16_becomes_runnable() -> None:
    """onnxruntime's CPU provider has no product in bfloat16."""
    text = """g (bfloat16[N, 64] x) => (bfloat16[N, 96] y) { y = MatMul(x, w) }"""
    message = proto(text)
    message.graph.initializer.append(elements.from_array(W.astype(ml_dtypes.bfloat16), "w"))
    model = import_model(message)
    report = PassManager([UseFloat32()]).run(model)[0]
    assert report.error is None
    assert ops(model) == ["Cast", "MatMul", "Cast"]
    [kept] = stored(model).values()
    np.testing.assert_array_equal(kept, W.astype(ml_dtypes.bfloat16).astype("f4"))


@pytest.mark.parametrize("pass_", [QuantizeDynamic(min_elements=1024), QuantizeStatic()])
def test_then_every_pass_works(pass_: QuantizeDynamic | QuantizeStatic) -> None:
    model, x = _mlp("float16"), {"x": X.astype(np.float16)}
    before, size = outputs(model, x), model.weight_bytes
    told = reasons(apply(pass_, model, data=x))["up"]
    assert told == "its weight is float16, not float32; use-float32 before this pass changes that"
    apply(UseFloat32(), model)
    apply(pass_, model, data=x)
    assert model.weight_bytes < 0.54 * size
    for name, values in outputs(model, x).items():
        assert values.dtype == np.float16
        np.testing.assert_allclose(values, before[name], atol=0.05 * np.abs(before[name]).max())


def test_what_is_left_is_stored_in_half_again_bit_for_bit() -> None:
    model = _mlp("float16")
    apply(UseFloat32(), model)
    apply(ConvertFloat(), model)
    kept = sorted(stored(model).values(), key=lambda each: each.shape)
    for values, wanted in zip(kept, (W, U), strict=True):
        np.testing.assert_array_equal(values, wanted.astype(np.float16))
