"""What becomes of Constant nodes, bodies, names and disorder when a model is read."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcompress.errors import ModelError
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Constant
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from onnxcompress.passes import QuantizeStatic
from tests.helpers import exported, node, ops, parse, proto, reload, run, tensor
from tests.passes.support import apply, model_of, normal

X = np.array([1, -2], np.float32)
W = np.array([1, 2], np.float32)
YES, NO = np.array(True), np.array(False)


@pytest.mark.parametrize(
    ("attribute", "values"),
    [
        ("value = float[2] {3, 4}", np.array([3, 4], np.float32)),
        ("value_float = 1.5", np.float32(1.5)),
        ("value_floats = [1.5, 2.5]", np.array([1.5, 2.5], np.float32)),
        ("value_int = -7", np.int64(-7)),
        ("value_ints = [1, 2]", np.array([1, 2], np.int64)),
    ],
)
def test_constant_nodes_become_stored_tensors(attribute: str, values: np.ndarray) -> None:
    model = parse(
        f"g (float[2] x) => (float[2] y) {{ c = Constant <{attribute}> ()"
        " f = Cast <to = 1> (c)  y = Add(x, f) }"
    )
    assert ops(model) == ["Cast", "Add"]
    stored = tensor(model, "c")
    assert isinstance(stored, Constant)
    assert stored.dtype == values.dtype
    np.testing.assert_array_equal(stored.values, values)
    np.testing.assert_array_equal(run(reload(model), x=X), X + values.astype(np.float32))


def test_an_empty_list_is_a_constant_too() -> None:
    model = proto("g () => (int64[0] y) { c = Constant <value_ints = [1]> ()  y = Identity(c) }")
    del model.graph.node[0].attribute[0].ints[:]
    stored = tensor(import_model(model), "c")
    assert (stored.shape, stored.dtype) == ((0,), np.int64)


def test_constant_nodes_that_stay() -> None:
    model = parse("""g (bool b) => (float[1] y, float[1] z, string[1] t) {
        y = Constant <value_floats = [1.0]> ()
        s = Constant <value_strings = ["a"]> ()
        t = Identity(s)
        z = If (b) <then_branch = p () => (float[1] p1) { p1 = Constant <value_floats = [2.0]> () },
                    else_branch = q () => (float[1] q1) { q2 = Constant <value_floats = [3.0]> ()
                                                          q1 = Neg(q2) }>
    }""")
    assert ops(model) == ["Constant", "Constant", "Identity", "If", "Neg", "Constant"]
    result = run(reload(model), b=NO)
    assert [result["y"][0], result["z"][0], result["t"][0]] == [1, -3, "a"]
    assert run(reload(model), b=YES)["z"] == [2]


def test_sibling_branches_may_use_the_same_names() -> None:
    model = reload(
        parse("""g (bool b, float[2] x) => (float[2] y) {
        y = If (b) <
            then_branch = t () => (float[2] o) <float[2] w = {1, 1}> { h = Add(x, w)  o = Neg(h) },
            else_branch = e () => (float[2] o) <float[2] w = {5, 5}> { h = Add(x, w)  o = Neg(h) }>
    }""")
    )
    verify(model)
    np.testing.assert_array_equal(run(model, b=YES, x=X), -(X + 1))
    np.testing.assert_array_equal(run(model, b=NO, x=X), -(X + 5))


def test_a_weight_read_inside_a_branch_and_outside_is_written_once() -> None:
    model = parse("""g (bool b, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
        a = Add(x, w)
        y = If (b) <then_branch = t () => (float[2] o) { o = Mul(a, w) },
                    else_branch = e () => (float[2] p) { p = Sub(a, w) }> }""")
    message = exported(model)
    assert [value.name for value in message.graph.initializer] == ["w"]
    for attribute in message.graph.node[1].attribute:
        assert not attribute.g.initializer
    np.testing.assert_array_equal(run(model, b=YES, x=X), (X + W) * W)
    np.testing.assert_array_equal(run(model, b=NO, x=X), X)


def test_a_weight_read_in_one_branch_is_written_there() -> None:
    model = parse("""g (bool b, float[2] x) => (float[2] y) {
        y = If (b) <then_branch = t () => (float[2] o) <float[2] w = {1, 2}> { o = Mul(x, w) },
                    else_branch = e () => (float[2] p) { p = Neg(x) }> }""")
    message = exported(model)
    assert not message.graph.initializer
    (then, other) = (attribute.g for attribute in message.graph.node[0].attribute)
    assert [value.name for value in then.initializer] == ["w"]
    assert not other.initializer


LOOP = """<ir_version: {ir}, opset_import: ["" : 11]>
    g (int64 n, float[2] x) => (float[2] y, float[K, 2] all) <float[2] w = {{1, 2}}> {{
    outer = Neg(x)
    y, all = Loop <body = b (int64 i, bool go, float[2] s)
        => (bool again, float[2] t, float[2] u) {{
        c = Constant <value = float[2] {{10, 10}}> ()
        again = Identity(go)
        k = Add(s, w)
        t = Add(k, c)
        u = Mul(t, outer)
    }}> (n, , x)
}}"""


@pytest.mark.parametrize("ir", [3, 10])
def test_a_loop_body_captures_tensors_and_weights(ir: int) -> None:
    before = proto(LOOP.format(ir=ir))
    if ir == 3:  # where initializers had to be inputs
        before.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))
    model = reload(import_model(before))
    assert model.envelope.ir_version == ir
    result = run(model, n=np.array(2), x=X)
    step = np.array([11, 12])
    np.testing.assert_array_equal(result["y"], X + 2 * step)
    np.testing.assert_array_equal(result["all"], [-X * (X + step), -X * (X + 2 * step)])


def test_a_scan_body() -> None:
    model = reload(
        parse("""g (float[3, 2] x) => (float[2] y, float[3, 2] all) <float[2] zero = {0, 0}> {
        y, all = Scan <num_scan_inputs = 1, body = b (float[2] s, float[2] e)
            => (float[2] t, float[2] u) { t = Add(s, e)  u = Identity(t) }> (zero, x) }""")
    )
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    result = run(model, x=x)
    np.testing.assert_array_equal(result["y"], x.sum(0))
    np.testing.assert_array_equal(result["all"], x.cumsum(0))


def test_ir_3_branches_with_stored_tensors() -> None:
    model = reload(
        parse("""<ir_version: 3, opset_import: ["" : 8]> g (bool b, float[2] x) => (float[2] y) {
        y = If (b) <
            then_branch = t () => (float[2] o) { c = Constant <value = float[2] {1, 2}> ()
                                                 o = Add(x, c) },
            else_branch = e () => (float[2] p) { p = Neg(x) }> }""")
    )
    np.testing.assert_array_equal(run(model, b=YES, x=X), X + W)


def test_unsorted_nodes() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(b)  b = Neg(a)  a = Abs(x) }")
    assert [read.name for read in node(model, "Relu_y").inputs[0].inputs] == ["Neg_b"]
    with pytest.raises(ModelError, match="only writes later"):
        verify(model)
    sort(model.graph)
    verify(model)
    assert ops(model) == ["Abs", "Neg", "Relu"]
    np.testing.assert_array_equal(run(model, x=X), [0, 0])


def test_every_node_gets_a_name_of_its_own_and_keeps_the_one_it_had() -> None:
    model = proto("""g (float[2] x) => (float[2] y)
        { a = Relu(x)  b = Neg(a)  c = Abs(b)  d = Sign(c)  y = Neg(d) }""")
    for one, name in zip(
        model.graph.node, ["", "twice", "twice", "Relu_a", "twice_1"], strict=True
    ):
        one.name = name
    names = [one.name for one in import_model(model).graph.nodes]
    assert names == ["Relu_a_1", "twice", "twice_2", "Relu_a", "twice_1"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("g (float[2] x) => (float[2] y) { y = Relu(x)  y = Neg(x) }", "'y'.*Neg"),
        ("g (float[2] x) => (float[2] y) { x = Relu(x)  y = Neg(x) }", "'x'.*Relu"),
        ("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { w = Neg(x) y = Abs(w) }", "'w'"),
        (
            "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>"
            " { w = Constant <value_float = 1.0> () y = Add(x, w) }",
            "'w'.*Constant",
        ),
        ("g (float[2] x, float[2] x) => (float[2] y) { y = Relu(x) }", "'x'.*graph input"),
    ],
)
def test_a_tensor_with_two_producers(text: str, named: str) -> None:
    with pytest.raises(ModelError, match=rf"tensor {named}.*unique names"):
        parse(text)


def test_two_initializers_of_one_name() -> None:
    model = proto("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2], [3, 4]))
    with pytest.raises(ModelError, match="two producers"):
        import_model(model)


def test_lists_of_graphs_are_refused_by_name() -> None:
    model = proto("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.node[0].attribute.add(
        name="many", type=onnx.AttributeProto.GRAPHS, graphs=[model.graph]
    )
    with pytest.raises(ModelError, match="'many' is a list of graphs"):
        import_model(model)


def test_omitted_inputs_and_outputs_stay_in_place() -> None:
    model = reload(
        parse("""g (float[4] x) => (float[4] y, int64[K] n)
        <float high = {2.0}> { y = Clip(x, , high)  u, , n = Unique(x) }""")
    )
    clip, unique = model.graph.nodes
    assert [value.name for value in clip.inputs] == ["x", "", "high"]
    assert [value.name for value in unique.outputs] == ["u", "", "n"]
    x = np.array([-5, 3, 1, 3], np.float32)
    np.testing.assert_array_equal(run(model, x=x)["y"], [-5, 2, 1, 2])


@pytest.mark.parametrize(
    ("opset", "count", "call", "left"),
    [
        (17, 2, "y = MaxPool <kernel_shape = [2, 2]> (x)", ["y"]),
        (9, 5, "y = BatchNormalization(x, s, s, s, s)", ["y"]),
        (17, 3, ", h = LSTM <hidden_size = 1> (z, w, r)  y = Identity(h)", ["", "h"]),
    ],
)
def test_unnamed_outputs_at_the_end_are_none(
    opset: int, count: int, call: str, left: list[str]
) -> None:
    """onnxruntime crashes over those of a BatchNormalization, and passes counted them."""
    message = proto(
        f'<ir_version: 4, opset_import: ["" : {opset}]> g (float[1, 4, 4, 4] x, float[1, 1, 1] z) '
        "=> (float[a, b, c, d] y) <float[4] s = {1, 2, 3, 4}, float[1, 4, 1] w = {1, 2, 3, 4}, "
        "float[1, 4, 1] r = {1, 2, 3, 4}> { " + call + " }"
    )
    written = message.graph.node[0].output
    written.extend([""] * (count - len(written)))
    model = import_model(message)
    assert [each.name for each in model.graph.nodes[0].outputs] == left
    feeds = {"x": np.ones((1, 4, 4, 4), np.float32), "z": np.ones((1, 1, 1), np.float32)}
    run(model, **feeds)  # would not come back


def test_unnamed_outputs_that_are_not_optional_stay() -> None:
    message = proto("g (float[4] x) => (float[1] y) { y = Split(x) }")
    message.graph.node[0].output.extend(["", "", ""])  # their number says how long each is
    assert len(import_model(message).graph.nodes[0].outputs) == 4


def test_a_pool_with_an_unnamed_output_is_quantized() -> None:
    before = model_of(
        "g (float[N, 3, 8, 8] x) => (float[N, 4, 3, 3] y) "
        "{ c = Conv(x, v)  a = Relu(c) "
        "[pool] p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)  y = Conv(p, w) }",
        v=normal(8, 3, 3, 3),
        w=normal(4, 8, 1, 1),
    )
    message = exported(before)
    next(each for each in message.graph.node if each.name == "pool").output.append("")
    model = import_model(message)
    apply(QuantizeStatic(), model, data={"x": normal(8, 3, 8, 8)})
    assert [tensor.dtype.name for tensor in model.constants() if len(tensor.shape) == 4] == [
        "int8",
        "int8",
    ]
