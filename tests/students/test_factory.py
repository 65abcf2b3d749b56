from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.ir.verify import verify
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.students.blocks import find_blocks, whole_blocks
from onnxcompress.students.boundary import between
from onnxcompress.students.contract import fit
from onnxcompress.students.factory import FACTORIES, make
from onnxcompress.students.part_context import PartContext
from onnxcompress.students.score import relative_error
from tests.architectures.specification import Exporter
from tests.architectures.table import ARCHITECTURES
from tests.helpers import ops, run
from tests.passes.support import Array, model_of, normal

if TYPE_CHECKING:
    from tests.architectures.export import Exports

ROWS = {"x": normal(40, 6, seed=9)}


def made(
    model: Model, name: str, amount: float = 0.5, data: dict[str, Array] = ROWS
) -> Model | str:
    context = RuntimeContext(dataset_of(data, Session(io.to_bytes(model)).inputs))
    types = context.types(model)
    boundary = between(model, ["a"], ["b"], types)
    return make(boundary.cut_out(model, types), name, PartContext(model, context), amount)


def around(body: str, shape: str = "N, 6", **weights: Array) -> Model:
    return model_of(
        f"g (float[{shape}] x) => (float[{shape}] y)"
        f" {{ a = Identity(x)  {body}  y = Identity(b) }}",
        **weights,
    )


def test_narrow_cuts_the_neurons_that_matter_least() -> None:
    weight = normal(6, 16)
    behind = normal(16, 6, seed=1)
    behind[::2] *= 1e-3
    model = around("h = MatMul(a, v)  r = Relu(h)  b = MatMul(r, w)", v=weight, w=behind)
    student = made(model, "narrow")
    assert isinstance(student, Model)
    wanted = np.maximum(ROWS["x"] @ weight[:, 1::2], 0) @ behind[1::2]
    np.testing.assert_allclose(run(student, a=ROWS["x"]), wanted, rtol=1e-4, atol=1e-5)


def test_low_rank_takes_the_share_of_parameters_that_is_asked_for() -> None:
    model = model_of(
        "g (float[N, 64] x) => (float[N, 64] y)"
        " { a = Identity(x)  [node] b = MatMul(a, w)  y = Identity(b) }",
        w=normal(64, 64),
    )
    student = made(model, "low-rank", 0.5, {"x": normal(80, 64)})
    assert isinstance(student, Model)
    assert ops(student) == ["MatMul", "MatMul"]
    assert student.parameters == 64 * 64 // 2


def test_identity_is_the_input() -> None:
    student = made(around("h = MatMul(a, w)  b = Relu(h)", w=normal(6, 6)), "identity")
    assert isinstance(student, Model)
    assert ops(student) == ["Identity"]
    np.testing.assert_array_equal(run(student, a=ROWS["x"]), ROWS["x"])


def test_separable_is_exact_for_what_is_separable() -> None:
    rng = np.random.default_rng(0)
    kernels, mixing = rng.standard_normal((8, 3, 3)), rng.standard_normal((8, 8))
    weight = np.einsum("oc,chw->ochw", mixing, kernels).astype(np.float32)
    model = around("b = Conv <pads = [1, 1, 1, 1]> (a, w, c)", "N, 8, 7, 7", w=weight, c=normal(8))
    image = normal(3, 8, 7, 7, seed=4)
    student = made(model, "separable", data={"x": image})
    assert isinstance(student, Model)
    assert student.parameters == 8 * 9 + 64 + 8
    np.testing.assert_allclose(run(student, a=image), run(model, x=image), atol=1e-4)


FORMULAS = {
    "gelu": "b = Gelu(a)",
    "erf": "d = Div(a, s)  e = Erf(d)  f = Add(e, one)  g = Mul(a, f)  b = Mul(g, half)",
    "half first": "d = Div(a, s)  e = Erf(d)  f = Add(e, one)  h = Mul(a, half)  b = Mul(h, f)",
    "tanh": "p = Pow(a, three)  q = Mul(p, t)  i = Add(a, q)  j = Mul(i, u)  k = Tanh(j)"
    "  l = Add(k, one)  m = Mul(half, a)  b = Mul(m, l)",
    "silu": "e = Sigmoid(a)  b = Mul(a, e)",
    "hard-swish": "e = HardSigmoid <alpha = 0.1666667> (a)  b = Mul(a, e)",
}
NUMBERS = {"s": 2**0.5, "one": 1, "half": 0.5, "three": 3, "t": 0.044715, "u": (2 / np.pi) ** 0.5}


@pytest.mark.parametrize("formula", FORMULAS)
def test_relu_replaces_a_formula_and_nothing_else(formula: str) -> None:
    stored = {name: np.float32(value) for name, value in NUMBERS.items()}
    used = {name: value for name, value in stored.items() if name in FORMULAS[formula]}
    body = FORMULAS[formula].replace("(a", "(o").replace(", a)", ", o)")
    model = around(f"n = MatMul(a, w)  o = Add(n, c)  {body}", w=normal(6, 6), c=normal(6), **used)
    student = made(model, "relu")
    assert isinstance(student, Model)
    assert ops(student) == ["MatMul", "Add", "Relu"]
    wanted = np.maximum(ROWS["x"] @ normal(6, 6) + normal(6), 0)
    np.testing.assert_allclose(run(student, a=ROWS["x"]), wanted, atol=1e-5)


NOTHING = {
    "low-rank": "no weight of the part is smaller as two factors",
    "narrow": "the part has no neurons that can be followed from weight to weight",
    "fewer-heads": "the part has no attention heads that can be followed from weight to weight",
    "separable": "the part has no Conv of several channels, ungrouped, with a kernel wider than 1",
    "relu": "the part has no activation function like Gelu, SiLU or HardSwish",
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_says_when_it_has_nothing_to_do(name: str) -> None:
    gate = around("h = Sigmoid(a)  b = Mul(h, w)", w=normal(6))
    if name == "identity":
        model = model_of(
            "g (float[N, 6] x) => (float[N, 5] y)"
            " { a = Identity(x)  b = MatMul(a, w)  y = Identity(b) }",
            w=normal(6, 5),
        )
        assert made(model, name) == "no input of the part has the type and shape of its output 'b'"
    else:
        assert made(gate, name) == NOTHING[name]


EXPORTED = (
    ("bert", Exporter.TRACED, ("fewer-heads", "identity", "low-rank", "narrow", "relu")),
    ("gpt", Exporter.TRACED, ("identity", "narrow")),
    ("vit", Exporter.DYNAMO, ("identity", "narrow", "relu")),
    ("resnet-basic", Exporter.TRACED, ("low-rank", "separable")),
)


@pytest.mark.parametrize(("architecture", "exporter", "names"), EXPORTED)
def test_students_of_exported_blocks_fit(
    architecture: str, exporter: Exporter, names: tuple[str, ...], exports: Exports
) -> None:
    source = next(each for each in ARCHITECTURES if each.name == architecture)
    path = exports.path(source, exporter)
    model = io.load(path)
    context = RuntimeContext(dataset_of(source.feeds(6), Session(path).inputs))
    types = context.types(model)
    block = whole_blocks(find_blocks(model, types))[0]
    boundary = between(model, [block.start.name], [block.end.name], types)
    for name in names:
        part = boundary.cut_out(model, types)
        size = part.parameters
        student = make(part, name, PartContext(model, context), 0.5)
        assert isinstance(student, Model), (name, student)
        verify(student)
        fit(model, boundary, student, types)
        if name == "relu":
            assert not {"Erf", "Gelu"} & set(ops(student))
        else:
            assert student.parameters < size, name
        assert 0 < relative_error(model, boundary, student, context) < np.inf
