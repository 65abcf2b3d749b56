import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcompress.errors import ModelError
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from tests.helpers import node, parse, run


def _chain(length: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"]) for i in range(length)]
    ends = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, [2]) for i in (0, length)]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))


def _names(model: Model) -> list[str]:
    return [node.outputs[0].name for node in model.graph.nodes]


def test_a_valid_order_stays_as_it_is() -> None:
    model = parse("""g (float[2] x) => (float[2] y) {
        late = Exp(x)  a = Neg(x)  alone = Abs(x)  b = Add(a, late)  c = Neg(a)  y = Add(b, c) }""")
    before = list(model.graph.nodes)
    sort(model.graph)
    assert all(one is other for one, other in zip(model.graph.nodes, before, strict=True))


def test_only_what_stands_too_early_moves() -> None:
    model = parse("""g (float[2] x) => (float[2] y)
        { b = Neg(a)  free = Abs(x)  a = Exp(x)  c = Sign(x)  y = Add(b, c) }""")
    sort(model.graph)
    assert _names(model) == ["free", "a", "b", "c", "y"]


def test_a_long_chain_in_any_order() -> None:
    model = import_model(_chain(5000))
    random.Random(0).shuffle(model.graph.nodes)
    sort(model.graph)
    assert _names(model) == [f"t{i + 1}" for i in range(5000)]


def test_captured_tensors_come_first() -> None:
    model = parse("""g (bool b, float[2] x) => (float[2] y) {
        y = If (b) <
            then_branch = t () => (float[2] o) {
                o = If (b) <then_branch = tt () => (float[2] oo) { oo = Neg(deep) },
                            else_branch = te () => (float[2] ot) { ot = Abs(x) }> },
            else_branch = e () => (float[2] p) { p = Neg(q)  q = Sign(flat) }>
        deep = Exp(x)
        flat = Add(x, deep)
    }""")
    sort(model.graph)
    assert _names(model) == ["deep", "flat", "y"]
    verify(model)  # the branch was sorted too
    x = np.array([1, -2], np.float32)
    np.testing.assert_array_equal(run(model, b=np.array(False), x=x), -np.sign(x + np.exp(x)))
    np.testing.assert_allclose(run(model, b=np.array(True), x=x), -np.exp(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "on_it"),
    [
        ("{ y = Neg(b)  b = Exp(c)  c = Abs(b) }", {"Exp_b", "Abs_c"}),
        ("{ y = Neg(a)  a = Add(x, a) }", {"Add_a"}),
        ("{ z = Neg(y)  y = Abs(z)  end = Sign(y) }", {"Neg_z", "Abs_y"}),
    ],
)
def test_a_cycle_names_a_node_on_it(text: str, on_it: set[str]) -> None:
    model = parse(f"g (float[2] x) => (float[2] y) {text}")
    with pytest.raises(ModelError, match=r"the graph has a cycle through node '(.*)'") as caught:
        sort(model.graph)
    assert str(caught.value).split("'")[1] in on_it


def test_a_body_that_captures_what_its_own_node_writes() -> None:
    model = parse("""g (bool b) => (float[2] y) {
        y = If (b) <then_branch = t () => (float[2] o) { o = Neg(y) },
                    else_branch = e () => (float[2] p) { p = Exp(y) }> }""")
    with pytest.raises(ModelError, match=f"cycle through node '{node(model, 'If_y').name}'"):
        sort(model.graph)
