"""Functions that a model defines are inlined, and what it computes stays the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from onnxcompress.errors import ModelError
from onnxcompress.inspection import inspect_model
from onnxcompress.ir import inline, io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from tests.helpers import exported, ops, proto, run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3)).astype(np.float32)
HEAD = '<ir_version: 10, opset_import: ["" : 18, "f" : 1]>'
FUNCTION = '<domain: "f", opset_import: ["" : 18]>'


def inlined(text: str) -> tuple[Model, np.ndarray]:
    """A model after loading, and what onnxruntime makes of it before."""
    message = proto(text)
    session = ort.InferenceSession(message.SerializeToString())
    (expected,) = session.run(None, {"x": X})
    return import_model(message), expected


def check(text: str, expected_ops: list[str]) -> Model:
    model, expected = inlined(text)
    assert ops(model) == expected_ops
    assert not model.envelope.functions
    assert [entry.domain for entry in model.envelope.opset_import] == [""]
    onnx.checker.check_model(exported(model))
    np.testing.assert_allclose(run(model, x=X), expected, rtol=1e-6)
    return model


def test_a_layer_that_is_called_twice() -> None:
    model = check(
        f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y)
            <float[3, 3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, float[3] b = {{1, 2, 3}}>
            {{ h = f.linear(x, w, b)  y = f.linear(h, w, b) }}
            {FUNCTION} linear (x, w, b) => (y) {{ t = Transpose(w) h = MatMul(x, t) y = Add(h, b) }}
        """,
        ["Transpose", "MatMul", "Add"] * 2,
    )
    assert model.notes == (
        "2 calls of 1 functions that the model defines were inlined, so that what is inside can be "
        "seen and compressed",
    )


@pytest.mark.parametrize(
    "call, slope", [("y = f.leaky(x)", 0.5), ("y = f.leaky <slope = 0.25> (x)", 0.25)]
)
def test_attributes_of_the_call_or_the_functions_default(call: str, slope: float) -> None:
    text = f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y) {{ {call} }}
        {FUNCTION} leaky <slope: float = 0.5> (x) => (y)
        {{ y = LeakyRelu <alpha: float = @slope> (x) }}"""
    model = check(text, ["LeakyRelu"])
    np.testing.assert_allclose(run(model, x=X), np.where(X < 0, X * slope, X), rtol=1e-6)


def test_an_attribute_that_is_left_out_is_the_operators_default() -> None:
    text = f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y) {{ y = f.leaky(x) }}
        {FUNCTION} leaky <slope> (x) => (y) {{ y = LeakyRelu <alpha: float = @slope> (x) }}"""
    model = import_model(proto(text))
    assert not model.graph.nodes[0].attrs
    np.testing.assert_allclose(run(model, x=X), np.where(X < 0, X * 0.01, X), rtol=1e-6)


def test_a_reference_through_two_functions_and_a_constant() -> None:
    text = f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y) {{ y = f.outer <by = 3.0> (x) }}
        {FUNCTION} outer <by: float = 1.0> (x) => (y)
        {{ h = f.times <factor: float = @by> (x)  y = f.times(h) }}
        {FUNCTION} times <factor: float = 2.0> (x) => (y)
        {{ c = Constant <value_float: float = @factor> ()  y = Mul(x, c) }}"""
    text = text.replace('["" : 18]> outer', '["" : 18, "f" : 1]> outer')
    model = check(text, ["Mul", "Mul"])
    np.testing.assert_allclose(run(model, x=X), X * 6, rtol=1e-6)


def test_inputs_left_out_outputs_left_out_and_inputs_returned() -> None:
    text = f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y) {{ a, , p = f.clip(x)  y = Add(a, p) }}
        {FUNCTION} clip (x, low) => (a, unused, x) {{ h = Relu(x)  unused = Neg(h)
        a = Clip(x, low) }}"""
    model = import_model(proto(text))
    np.testing.assert_allclose(run(model, x=X), 2 * X, rtol=1e-6)


def test_bodies_that_read_what_stands_around() -> None:
    branch = "=> (float[N, 3] r) { r = "
    text = f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y) {{ h = Neg(x)  y = f.pick(h) }}
        {FUNCTION} pick (x) => (y) {{ h = Abs(x)  z = Constant <value_float: float = 0.0> ()
        s = ReduceSum <keepdims = 0> (x)  c = Greater(s, z)
        y = If (c) <then_branch = t () {branch} Add(h, x) }},
                    else_branch = e () {branch} Sub(h, x) }}> }}"""
    model, expected = inlined(text)
    assert ops(model)[:5] == ["Neg", "Abs", "ReduceSum", "Greater", "If"]
    onnx.checker.check_model(exported(model))
    np.testing.assert_allclose(run(model, x=X), expected, rtol=1e-6)


def test_calls_in_bodies() -> None:
    branch = "=> (float[N, 3] r) { r = "
    text = f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y) <bool c = {{1}}> {{
        y = If (c) <then_branch = t () {branch} f.double(x) }},
                    else_branch = e () {branch} Neg(x) }}> }}
        {FUNCTION} double (x) => (r) {{ h = Neg(x)  r = Sub(x, h) }}"""
    model, expected = inlined(text)
    assert sorted(ops(model)) == ["If", "Neg", "Neg", "Sub"]
    np.testing.assert_allclose(run(model, x=X), expected, rtol=1e-6)


def test_what_means_something_else_in_the_models_opset_stays() -> None:
    text = """<ir_version: 10, opset_import: ["" : 18, "f" : 1]>
        g (float[N, 3] x) => (float[N, 3] y) { y = f.normal(x) }
        <domain: "f", opset_import: ["" : 12]> normal (x) => (y) { y = Softmax <axis = 0> (x) }"""
    model, expected = inlined(text)
    assert ops(model) == ["normal"]
    assert model.notes[0].startswith("1 functions that the model defines were not inlined")
    np.testing.assert_allclose(run(model, x=X), expected, rtol=1e-6)


def test_operators_with_kernels_stay() -> None:
    text = """<ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1]>
        g (float[N, 3] x) => (float[N, 3] y) { y = com.microsoft.Gelu(x) }
        <domain: "com.microsoft", opset_import: ["" : 18]> Gelu (x) => (y) { y = Relu(x) }"""
    model = import_model(proto(text))
    assert ops(model) == ["Gelu"]
    assert model.notes == ()


def test_functions_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y) {{ y = f.a(x) }}
        {FUNCTION} a (x) => (y) {{ y = f.a(x) }}"""
    with pytest.raises(ModelError, match=r"function f\.a calls itself"):
        import_model(proto(text))
    monkeypatch.setattr(inline, "MOST_NODES", 20)
    steps = "".join(
        f"{FUNCTION} s{n} (x) => (y) {{ h = f.s{n + 1}(x)  y = f.s{n + 1}(h) }}\n" for n in range(6)
    )
    text = f"{HEAD} g (float[N, 3] x) => (float[N, 3] y) {{ y = f.s0(x) }}\n{steps}"
    with pytest.raises(ModelError, match="stand for more than 20 nodes"):
        import_model(proto(f"{text}{FUNCTION} s6 (x) => (y) {{ y = Neg(x) }}"))


def test_inspect_sees_what_is_inside_and_says_so(tmp_path: Path) -> None:
    message = proto(f"""{HEAD} g (float[N, 64] x) => (float[N, 32] y) {{ y = f.linear(x, w) }}
        {FUNCTION} linear (x, w) => (y) {{ y = MatMul(x, w) }}""")
    weight = RNG.standard_normal((64, 32)).astype(np.float32)
    message.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(message, tmp_path / "m.onnx")
    report = inspect_model(tmp_path / "m.onnx")
    assert report.macs == 64 * 32
    assert any("1 calls of 1 functions" in note for note in report.notes)
    assert ops(io.load(tmp_path / "m.onnx")) == ["MatMul"]


def test_names_that_are_taken_are_made_new() -> None:
    message = proto(f"""{HEAD} g (float[N, 3] x) => (float[N, 3] y)
        {{ h = Neg(x)  y = f.double(h) }}
        {FUNCTION} double (x) => (y) {{ h = Neg(x)  y = Sub(x, h) }}""")
    message.graph.node[1].name = "call"
    message.graph.node.insert(0, helper.make_node("Abs", ["x"], ["call/h"]))
    model = import_model(message)
    np.testing.assert_allclose(run(model, x=X), -2 * X, rtol=1e-6)
