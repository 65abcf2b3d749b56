from collections.abc import Mapping

import numpy as np
import pytest

from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.pass_base import EXCLUDED, Override, PassReport
from onnxcompress.passes import ConvertFloat
from onnxcompress.passes.convert_float import Scope, SmallFloat
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.runtime.session import Session
from tests.helpers import ops, outputs, tensor

from .restored import restored
from .support import Array, apply, model_of, normal, opset, reasons, sqnr, stored

X = normal(8, 64)
W = normal(64, 96, seed=1)
PRODUCT = "g (float[N, 64] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }"
GRAPH = ConvertFloat(scope=Scope.GRAPH)


@pytest.mark.parametrize(
    ("dtype", "decibels", "times", "nodes"),
    [
        (SmallFloat.FLOAT16, 70, 2, ["Cast"]),
        (SmallFloat.BFLOAT16, 52, 2, ["Cast"]),
        (SmallFloat.FLOAT8_E4M3FN, 30, 3.7, ["Cast", "Mul"]),
    ],
)
@pytest.mark.parametrize("version", [13, 21])
def test_weights_are_stored_small(
    dtype: SmallFloat, decibels: float, times: float, nodes: list[str], version: int
) -> None:
    model = model_of(opset(version) + PRODUCT, w=W)
    report = apply(ConvertFloat(dtype=dtype), model)
    assert ops(model) == [*nodes, "MatMul"]
    assert report.bytes_before / report.bytes_after >= times
    assert dtype.value.replace("8e4", "8_e4") in {a.dtype.name for a in stored(model).values()}
    small = restored(model, "n")
    assert decibels < sqnr(W, small) < decibels + 12
    expected = X.astype(np.float64) @ small
    for got in (outputs(model, {"x": X}), Session(io.to_bytes(model)).run({"x": X})):
        np.testing.assert_allclose(got["y"], expected, rtol=1e-5, atol=1e-5)
    assert executed_ops(io.to_bytes(model)) == {"MatMul": 1}
    assert model.opset == max(version, 19 if dtype is SmallFloat.FLOAT8_E4M3FN else 13)


def test_weights_beyond_the_range_stay() -> None:
    model = model_of(PRODUCT, w=W * 1e5)
    assert reasons(apply(ConvertFloat(), model)) == {"n": "its weight leaves the range of float16"}
    assert apply(ConvertFloat(dtype=SmallFloat.BFLOAT16), model).modified


def test_the_opset_is_what_the_type_needs() -> None:
    needed = [ConvertFloat(dtype=dtype).required_opset() for dtype in SmallFloat]
    assert needed == [9, 13, 19]


def test_only_float16_runs_throughout() -> None:
    with pytest.raises(RecipeError, match="scope graph takes dtype float16 alone"):
        parse_pass("convert-float:scope=graph,dtype=bfloat16")


def _converted(
    text: str, feeds: Mapping[str, Array], pass_: ConvertFloat = GRAPH, **weights: Array
) -> tuple[PassReport, list[str], float]:
    """The report, the operators, and the SQNR of the output without and with optimizations."""
    model = model_of(text, **weights)
    before = outputs(model, feeds)["y"]
    report = apply(pass_, model, data=feeds)
    got = [outputs(model, feeds)["y"], Session(io.to_bytes(model)).run(feeds)["y"]]
    assert all(each.dtype == np.float32 and np.isfinite(each).all() for each in got)
    return report, ops(model), min(sqnr(before, each) for each in got)


def test_a_graph_runs_in_float16_between_casts() -> None:
    text = """g (float[N, 64] x) => (float[N, 96] y) {
      a = MatMul(x, w)  b = Add(a, bias)  c = Relu(b)  y = Mul(c, c) }"""
    report, nodes, decibels = _converted(text, {"x": X}, w=W, bias=normal(96))
    assert nodes == ["Cast", "MatMul", "Add", "Relu", "Mul", "Cast"]
    assert not report.skips
    assert report.bytes_after * 2 == report.bytes_before
    assert 50 < decibels < 80


@pytest.mark.parametrize("bound", [-100.0, 100.0])
def test_graph_outputs_and_readers_in_bodies_get_float32(bound: float) -> None:
    text = """g (float[N, 64] x) => (float[N, 96] y, float[N, 96] a) {
      a = MatMul(x, w)
      b = Relu(a)
      m = ReduceMax <keepdims = 0> (x)
      c = Greater(m, bound)
      [if] d = If (c) < then_branch = t () => (float[N, 96] r) { r = Neg(b) },
                        else_branch = e () => (float[N, 96] s) { s = Sqrt(b) } >
      y = Add(d, b) }"""
    model = model_of(text, w=W, bound=np.array(bound, np.float32))
    before = outputs(model, {"x": X})
    report = apply(GRAPH, model, data={"x": X})
    assert reasons(report) == {"if": "holds graphs"}
    for got in (outputs(model, {"x": X}), Session(io.to_bytes(model)).run({"x": X})):
        assert {name: each.dtype.name for name, each in got.items()} == {
            "y": "float32",
            "a": "float32",
        }
        assert all(sqnr(before[name], got[name]) > 50 for name in got)
    assert tensor(model, "b").dtype == np.float16


def test_what_leaves_the_range_stays_float32() -> None:
    text = """g (float[N, 64] x) => (float[N, 96] y) {
      [in] a = MatMul(x, w)  [big] b = Mul(a, up)  [small] c = Mul(b, down)  [out] y = Relu(c) }"""
    up, down = np.array(3e4, np.float32), np.array(1e-4, np.float32)
    report, nodes, decibels = _converted(text, {"x": X}, w=W, up=up, down=down)
    assert {name: why.split(" reaches")[0] for name, why in reasons(report).items()} == {
        "big": "'b'",
        "small": "'b'",
    }
    assert all("beyond float16's 65504" in why for why in reasons(report).values())
    assert nodes == ["Cast", "MatMul", "Cast", "Mul", "Mul", "Cast", "Relu", "Cast"]
    assert decibels > 50


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("Exp(x)", "sums or powers leave float16's range easily"),
        ("Softmax(x)", "onnxruntime takes it apart into smaller nodes in float16"),
        ("Mul(x, far)", "'far' holds 1e+05, beyond float16's 65504"),
        ("Add(x, eps)", "'eps' is 1e-12, which float16 rounds to zero"),
        ("com.microsoft.QuickGelu(x)", "domain 'com.microsoft' is not the standard operator set"),
    ],
)
def test_nodes_that_stay_float32_are_told(call: str, reason: str) -> None:
    text = f"g (float[N, 64] x) => (float[N, 64] y) {{ [n] y = {call} }}"
    far, eps = np.array(1e5, np.float32), np.array(1e-12, np.float32)
    report, nodes, _ = _converted(text, {"x": X}, far=far, eps=eps)
    assert reasons(report) == {"n": reason}
    assert len(nodes) == 1 and not report.modified


def test_infinite_activations_are_no_fault() -> None:
    text = "g (float[N, 64] x) => (float[N, 64] y) { [i] a = Add(x, far)  [m] y = Min(a, x) }"
    far = np.array(np.inf, np.float32)
    report, nodes, _ = _converted(text, {"x": X}, far=far)
    assert nodes == ["Add", "Min"]
    assert set(reasons(report)) == {"i", "m"}


def test_inputs_that_must_be_float32_stay_so() -> None:
    text = """g (float[N, 2, 4, 4] x) => (float[N, 2, 8, 8] y) {
      a = Relu(x)  y = Resize <mode = "linear"> (a, , scales) }"""
    scales = np.array([1, 1, 2, 2], np.float32)
    report, nodes, decibels = _converted(text, {"x": normal(3, 2, 4, 4)}, scales=scales)
    assert nodes == ["Cast", "Relu", "Resize", "Cast"]
    assert not report.skips and decibels > 50


def test_shapes_are_read_from_float16() -> None:
    text = """g (float[N, 64] x) => (float[N, 64] y) {
      a = Relu(x)  s = Shape(a)  b = Neg(a)  y = Reshape(b, s) }"""
    _, nodes, _ = _converted(text, {"x": X})
    assert sorted(nodes) == ["Cast", "Cast", "Neg", "Relu", "Reshape", "Shape"]


def test_excluded_nodes_stay_float32() -> None:
    text = "g (float[N, 64] x) => (float[N, 64] y) { [keep] a = Relu(x)  [go] y = Neg(a) }"
    pass_ = ConvertFloat(scope=Scope.GRAPH, overrides=(Override(None, nodes=("keep",)),))
    report, nodes, _ = _converted(text, {"x": X}, pass_)
    assert nodes == ["Relu", "Cast", "Neg", "Cast"]
    assert reasons(report) == {"keep": EXCLUDED}


def test_a_whole_graph_needs_data() -> None:
    with pytest.raises(PassError, match="need calibration data"):
        apply(GRAPH, model_of(PRODUCT, w=W))


def test_tensors_are_declared_as_what_they_are() -> None:
    text = "g (float[N, 64] x) => (float[N, 64] y) <float[N, 64] a> { a = Relu(x)  y = Neg(a) }"
    model = model_of(text)
    apply(GRAPH, model, data={"x": X})
    assert tensor(model, "a").dtype == np.float16


@pytest.mark.parametrize("given", [("x",), ("x", "w")])
def test_inputs_with_stored_values(given: tuple[str, ...]) -> None:
    """What the data do not feed is a constant; what they could feed stays an input."""
    text = "g (float[N, 64] x, float[64, 96] w) => (float[N, 96] y) { [n] y = MatMul(x, w) }"
    model = model_of(text, w=W)
    feeds = {"x": X}
    before = outputs(model, feeds)["y"]
    data = {"x": X, "w": np.stack([W] * len(X))}
    apply(GRAPH, model, data={name: data[name] for name in given})
    assert [each.name for each in model.graph.inputs] == (["x", "w"] if "w" in given else ["x"])
    np.testing.assert_allclose(outputs(model, feeds)["y"], before, atol=0.02 * np.abs(before).max())
