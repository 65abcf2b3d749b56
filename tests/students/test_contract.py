import pytest

from onnxcompress.errors import ModelError
from onnxcompress.ir.model import Model
from onnxcompress.students.boundary import Boundary, between
from onnxcompress.students.contract import fit
from tests.helpers import ops
from tests.passes.support import model_of, normal, opset

from .test_boundary import context_of


def teacher(version: int = 17) -> Model:
    return model_of(
        f"{opset(version)} g (float[N, 6] x, float[N, 6] m) => (float[N, 6] y) {{"
        " a = Relu(x)  k = Sigmoid(m)  b = MatMul(a, w)  c = Mul(b, k)  y = Tanh(c) }",
        w=normal(6, 6, seed=2),
    )


def fitted(student: Model, version: int = 17) -> Boundary:
    model = teacher(version)
    boundary = between(model, ["a"], ["c"])
    fit(model, boundary, student, context_of(model).types(model))
    return boundary


def student(text: str, version: int = 17, ir: int = 8) -> Model:
    return model_of(opset(version).replace("ir_version: 8", f"ir_version: {ir}") + text)


def test_tensors_go_by_name_or_by_order() -> None:
    for text in (
        "g (float[n, 6] a, float[n, 6] k) => (float[n, 6] c) { c = Mul(a, k) }",
        "g (float[n, 6] u) => (float[n, 6] v) { v = Neg(u) }",
        "g (float[n, 6] k) => (float[n, 6] v) { v = Neg(k) }",
    ):
        made = student(text)
        fitted(made)
        assert [tensor.name for tensor in made.graph.outputs] == ["c"]
        assert {tensor.name for tensor in made.graph.inputs} <= {"a", "k"}


def test_an_older_student_is_raised_to_the_model() -> None:
    made = student("g (float[n, 6] a) => (float[n, 6] c) { c = Softmax <axis = 1> (a) }", 11)
    fitted(made)
    assert made.opset == 17
    assert "Softmax" in ops(made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (float[n, 6] a, float[n] q) => (float[n, 6] c) { c = Add(a, q) }", "no input 'q'"),
        (
            "g (float[n, 6] a) => (float[n, 6] c, float[n, 6] d) { c = Neg(a) d = Neg(a) }",
            "no output 'd'",
        ),
        (
            "g (float[n, 6] a) => (float[n, 7] c) { c = Neg(a) }",
            r"'c' is \['n', 7\], the model's is \[1, 6\]",
        ),
        ("g (float[n, 6] a) => (float[6] c) { c = Neg(a) }", r"'c' is \[6\]"),
        ("g (double[n, 6] a) => (float[n, 6] c) { c = Cast <to = 1> (a) }", "'a' is float64"),
    ],
)
def test_what_differs_is_named(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"the student does not fit: .*{message}"):
        fitted(student(text))


def test_all_that_differs_is_told_at_once() -> None:
    made = student("g (double[n, 6] a) => (double[n, 7] c) { c = Neg(a) }")
    with pytest.raises(ModelError, match=r"'a' is float64.*; 'c' is float64.*; 'c' is "):
        fitted(made)


def test_a_newer_student_and_other_domains_are_refused() -> None:
    made = student("g (float[n, 6] a) => (float[n, 6] c) { c = Gelu(a) }", 20)
    with pytest.raises(ModelError, match="written in opset 20, the model in 17"):
        fitted(made)
    made = model_of(
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> '
        "g (float[n, 6] a) => (float[n, 6] c) { c = com.microsoft.Gelu(a) }"
    )
    fitted(made)
    model = teacher()
    model.import_domain("com.microsoft", 2)
    boundary = between(model, ["a"], ["c"])
    with pytest.raises(
        ModelError, match=r"version 1 of domain 'com\.microsoft', the model version 2"
    ):
        fit(model, boundary, made, {})


def test_graphs_inside_are_refused() -> None:
    made = student(
        "g (float[n, 6] a, bool k) => (float[n, 6] c) { [choice] c = If (k)"
        " <then_branch = t () => (float[n, 6] p) { p = Relu(a) },"
        " else_branch = e () => (float[n, 6] q) { q = Neg(a) }> }"
    )
    with pytest.raises(ModelError, match="If 'choice' holds graphs"):
        fitted(made)
