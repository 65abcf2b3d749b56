import numpy as np
import pytest
import torch

from onnxcompress.distillation.call import UnsupportedError
from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.values import as_tensor, to_numpy
from onnxcompress.ir.from_proto import import_model
from tests import helpers
from tests.distillation.operators.support import copied

RNG = np.random.default_rng(6)


def interpret(model, **feeds):
    found = Interpreter(import_model(copied(model))).run(feeds)
    return {name: to_numpy(as_tensor(value)) for name, value in found.items()}


def same(text, **feeds):
    """The model gives what onnxruntime gives."""
    model = helpers.proto(text)
    expected = helpers.outputs(model, feeds)
    helpers.assert_same_outputs(expected, interpret(model, **feeds), 1e-6)


def gradients(text, **feeds):
    """The gradient of every float input equals central differences."""
    interpreter = Interpreter(helpers.parse(text), precision=torch.float64)
    varied = {
        name: torch.from_numpy(each.astype(np.float64)).requires_grad_()
        for name, each in feeds.items()
        if each.dtype == np.float32
    }

    def function(*values):
        found = interpreter.run({**feeds, **dict(zip(varied, values, strict=True))})
        return tuple(as_tensor(value) for value in found.values())

    assert torch.autograd.gradcheck(function, tuple(varied.values()))


IF = """g (bool c, float[2,3] x) => (float[N,M] y) {
    y = If(c) <
        then_branch = then () => (float[N,M] a) { b = Exp(x)  a = Mul(b, x) },
        else_branch = other () => (float[N,M] d) {
            e = Constant<value_float = 2.0>()
            d = Mul(x, e)
        }
    > }"""


@pytest.mark.parametrize("condition", [True, False])
def test_if_reads_what_is_around_it(condition):
    feeds = {"c": np.array(condition), "x": RNG.normal(size=(2, 3)).astype(np.float32)}
    same(IF, **feeds)
    gradients(IF, **feeds)


def test_if_in_an_if():
    text = """g (bool c, bool d, float[2] x) => (float[2] y) {
        w = Exp(x)
        y = If(c) <
            then_branch = outer () => (float[2] a) {
                a = If(d) <
                    then_branch = inner () => (float[2] p) { p = Mul(w, x) },
                    else_branch = third () => (float[2] q) { q = Neg(w) }
                > },
            else_branch = other () => (float[2] b) { b = Constant<value_floats = [1.0, 2.0]>() }
        > }"""
    x = RNG.normal(size=2).astype(np.float32)
    for c in (True, False):
        for d in (True, False):
            same(text, c=np.array(c), d=np.array(d), x=x)


LOOP = """g (int64 n, float[2] x) => (float[2] last, float[N,2] rows) {
    go = Constant<value = bool {1}>()
    last, rows = Loop(n, go, x) <body = b (int64 i, bool c, float[2] h) => (
            bool d, float[2] k, float[2] row) {
        d = Identity(c)
        f = Cast<to = 1>(i)
        s = Add(h, f)
        k = Mul(s, x)
        row = Neg(k)
    }> }"""


@pytest.mark.parametrize("count", [1, 3])
def test_loop_carries_and_collects(count):
    feeds = {"n": np.array(count), "x": RNG.normal(size=2).astype(np.float32)}
    same(LOOP, **feeds)
    gradients(LOOP, **feeds)


def test_loop_ends_when_told():
    text = """g (float[2] x, float limit) => (float[2] last) {
        go = Constant<value = bool {1}>()
        last = Loop(, go, x) <body = b (int64 i, bool c, float[2] h) => (bool d, float[2] k) {
            k = Add(h, x)
            m = ReduceMax<keepdims = 0>(k)
            d = Less(m, limit)
        }> }"""
    same(text, x=np.array([0.3, 0.5], np.float32), limit=np.array(3, np.float32))


def test_loop_that_never_runs():
    model = helpers.proto(LOOP)
    feeds = {"n": np.array(0), "x": np.zeros(2, np.float32)}
    with pytest.raises(UnsupportedError, match=r"\(Loop\): the body never ran, so \['row'\]"):
        interpret(model, **feeds)


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        ", scan_input_directions = [1], scan_output_directions = [1]",
        ", scan_input_axes = [1], scan_output_axes = [1]",
    ],
)
def test_scan(attributes):
    text = f"""g (float[3] start, float[3,3] x) => (float[3] last, float[A,B] rows) {{
        last, rows = Scan(start, x) <num_scan_inputs = 1, body = b (float[3] h, float[3] e) => (
                float[3] k, float[3] row) {{
            s = Add(h, e)
            k = Tanh(s)
            row = Mul(k, e)
        }}{attributes}> }}"""
    feeds = {
        "start": RNG.normal(size=3).astype(np.float32),
        "x": RNG.normal(size=(3, 3)).astype(np.float32),
    }
    same(text, **feeds)
    gradients(text, **feeds)


def test_a_trained_weight_in_a_body_gets_gradients():
    model = helpers.parse("""g (bool c, float[2] x) => (float[2] y) <float[2] w = {2, 3}> {
        y = If(c) <
            then_branch = then () => (float[2] a) { a = Mul(w, x) },
            else_branch = other () => (float[2] b) { b = Neg(x) }
        > }""")
    interpreter = Interpreter(model)
    (weight,) = (each for each in model.constants() if each.name == "w")
    trained = torch.tensor([2.0, 3.0], requires_grad=True)
    interpreter.stored[weight] = trained
    x = np.array([5, 7], np.float32)
    as_tensor(interpreter.run({"c": np.array(True), "x": x})["y"]).sum().backward()
    assert trained.grad is not None
    assert trained.grad.tolist() == [5, 7]
