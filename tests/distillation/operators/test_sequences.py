import numpy as np
import pytest
import torch

from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.values import as_tensor, to_numpy
from onnxcompress.errors import ModelError
from onnxcompress.ir.from_proto import import_model
from tests import helpers
from tests.distillation.operators.support import copied

RNG = np.random.default_rng(7)
X = RNG.normal(size=(5, 4)).astype(np.float32)


def same(body, outputs, **feeds):
    """A body that reads float[5,4] x and int64 i gives what onnxruntime gives."""
    feeds = {"x": X, "i": np.array(1)} | feeds
    model = helpers.proto(f"g (float[5,4] x, int64 i) => ({outputs}) {{ {body} }}")
    expected = helpers.outputs(model, feeds)
    found = Interpreter(import_model(copied(model))).run(feeds)
    helpers.assert_same_outputs(
        expected, {name: to_numpy(as_tensor(value)) for name, value in found.items()}
    )


@pytest.mark.parametrize("at", [0, 1, 2, -1, -3])
def test_elements_come_and_go(at):
    same(
        """n = Neg(x)  a = Abs(x)
        s = SequenceConstruct(x, n, a)
        y = SequenceAt(s, i)
        e = SequenceErase(s, i)  f = SequenceErase(s)
        m = SequenceInsert(e, y, i)  o = SequenceInsert(f, n)
        c = ConcatFromSequence<axis = 1>(m)
        d = ConcatFromSequence<axis = 0, new_axis = 1>(o)
        l = SequenceLength(e)""",
        "float[5,4] y, float[A,B] c, float[C,D,E] d, int64 l",
        i=np.array(at if at != -3 else -2),
    )


def test_an_empty_sequence_grows():
    same(
        """s = SequenceEmpty()
        t = SequenceInsert(s, x)
        y = SequenceAt(t, i)
        l = SequenceLength(s)""",
        "float[5,4] y, int64 l",
        i=np.array(0),
    )


@pytest.mark.parametrize(
    "split",
    [
        "s = SplitToSequence<axis = 1>(x)",
        "s = SplitToSequence<axis = 0, keepdims = 0>(x)",
        "n = Constant<value_int = 2>()  s = SplitToSequence<axis = 0>(x, n)",
        "n = Constant<value_ints = [1, 4]>()  s = SplitToSequence<axis = -2>(x, n)",
    ],
)
def test_split_to_a_sequence(split):
    same(f"{split}  y = SequenceAt(s, i)  l = SequenceLength(s)", "float y, int64 l")


def test_sequence_map():
    body = """s = SplitToSequence<axis = 1>(x)
        t = SequenceMap(s, x) <body = b (float[5,1] e, float[5,4] z) => (float[5,4] f) {
            f = Add(e, z)
        }>
        y = ConcatFromSequence<axis = 0>(t)"""
    model = helpers.parse(f"g (float[5,4] x) => (float[A,B] y) {{ {body} }}")
    found = to_numpy(as_tensor(Interpreter(model).run({"x": X})["y"]))
    np.testing.assert_array_equal(found, np.concatenate([X[:, [at]] + X for at in range(4)]))


def test_optionals():
    same(
        "o = Optional(x)  h = OptionalHasElement(o)  y = OptionalGetElement(o)",
        "bool h, float[5,4] y",
    )
    same("h = OptionalHasElement()", "bool h")


def test_an_input_may_be_a_sequence():
    model = helpers.parse(
        "g (seq(float[N]) s) => (float[M] y) { y = ConcatFromSequence<axis = 0>(s) }"
    )
    found = Interpreter(model).run({"s": [torch.ones(2), torch.zeros(1)]})["y"]
    assert as_tensor(found).tolist() == [1, 1, 0]


def test_no_such_element():
    model = helpers.parse(
        "g (float[4] x, int64 i) => (float[4] y) { s = SequenceConstruct(x)  y = SequenceAt(s, i) }"
    )
    with pytest.raises(ModelError, match=r"\(SequenceAt\) failed in PyTorch: list index"):
        Interpreter(model).run({"x": X[0], "i": np.array(7)})
