import re

import numpy as np
import pytest

from onnxcompress.errors import ModelError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Variable
from onnxcompress.ir.verify import verify
from tests.helpers import node, parse, tensor

CHAIN = """g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
    { a = Add(x, w)  b = Neg(a)  c = Exp(b)  d = Abs(c)  e = Sign(d)  y = Relu(e) }"""


def test_a_sound_model() -> None:
    verify(parse(CHAIN))


def test_the_nodes_around_the_fault_are_shown() -> None:
    model = parse(CHAIN)
    node(model, "Abs_d").inputs[0] = Variable("ghost")
    with pytest.raises(ModelError) as caught:
        verify(model)
    assert str(caught.value).splitlines() == [
        "node 'Abs_d' (Abs) reads 'ghost', which nothing defines; the nodes around it:",
        "    b = Neg(a)  [Neg_b]",
        "    c = Exp(b)  [Exp_c]",
        "  > d = Abs(ghost)  [Abs_d]",
        "    e = Sign(d)  [Sign_e]",
        "    y = Relu(e)  [Relu_y]",
    ]


def test_at_the_start_of_the_graph() -> None:
    model = parse(CHAIN)
    model.graph.nodes[0].inputs[1] = Variable("ghost")
    with pytest.raises(ModelError, match="reads 'ghost'") as caught:
        verify(model)
    assert len(str(caught.value).splitlines()) == 4


def _unsorted() -> str:
    return "g (float[2] x) => (float[2] y) { y = Neg(a)  a = Abs(x) }"


def test_unsorted() -> None:
    with pytest.raises(
        ModelError, match=r"'Neg_y' .*reads 'a', which node 'Abs_a' only writes lat"
    ):
        verify(parse(_unsorted()))


def test_a_name_written_twice() -> None:
    model = parse(CHAIN)
    node(model, "Sign_e").outputs[0].name = "b"
    with pytest.raises(ModelError, match=r"'Sign_e' .*writes 'b', which is already defined"):
        verify(model)


def test_two_stored_tensors_of_one_name() -> None:
    model = parse(CHAIN)
    node(model, "Neg_b").inputs[0] = Constant("w", np.zeros(2, np.float32))
    with pytest.raises(ModelError, match="graph 'g': two tensors are named 'w'"):
        verify(model)


def test_a_stored_tensor_named_like_an_input() -> None:
    model = parse(CHAIN)
    tensor(model, "w").name = "x"
    with pytest.raises(ModelError, match="two tensors are named 'x'"):
        verify(model)


def test_two_nodes_of_one_name() -> None:
    model = parse(CHAIN)
    node(model, "Sign_e").name = "Neg_b"
    with pytest.raises(ModelError, match=r"node 'Neg_b' .Sign. two nodes are named 'Neg_b'"):
        verify(model)


def test_an_output_that_nothing_writes() -> None:
    model = parse("g (float[2] x) => (float[2] y) { a = Neg(x) }")
    with pytest.raises(ModelError, match=r"graph .g. returns .y., which nothing defines"):
        verify(model)


def test_faults_inside_bodies() -> None:
    model = parse("""g (bool b, float[2] x) => (float[2] y) {
        y = If (b) <then_branch = t () => (float[2] o) { h = Neg(x)  o = Abs(h) },
                    else_branch = e () => (float[2] p) { p = Exp(x) }> }""")
    verify(model)
    node(model, "Exp_p").inputs[0] = node(model, "Neg_h").outputs[0]
    with pytest.raises(ModelError, match=re.escape("node 'Exp_p' (Exp) reads 'h'")) as caught:
        verify(model)  # a branch sees nothing of its sibling
    assert "  > p = Exp(h)  [Exp_p]" in str(caught.value)


def test_what_an_editor_leaves_behind_is_seen() -> None:
    model = parse(CHAIN)
    edit = Editor(model)
    late = edit.add("Neg", [tensor(model, "x")], near=node(model, "Relu_y"), base="late")
    edit.set_input(node(model, "Neg_b"), 0, late)
    edit.finish()
    with pytest.raises(ModelError, match=r"reads 'late', which node .* only writes later"):
        verify(model)
