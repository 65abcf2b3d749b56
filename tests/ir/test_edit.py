import numpy as np
import pytest

from onnxcompress.errors import ModelError
from onnxcompress.ir.edit import Action, Change, Editor, Skip
from onnxcompress.ir.model import Constant, Model, Variable
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from tests.helpers import exported, node, ops, parse, run, tensor

X = np.array([1, -2], np.float32)
CHAIN = """g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
    { a = Add(x, w)  b = Mul(a, w)  y = Neg(b) }"""


def _finished(edit: Editor) -> Model:
    edit.finish()
    sort(edit.model.graph)
    verify(edit.model)
    return edit.model


def _variable(model: Model, name: str) -> Variable:
    found = tensor(model, name)
    assert isinstance(found, Variable)
    return found


def test_added_nodes_and_tensors_get_names_that_are_free() -> None:
    model = parse(CHAIN)
    edit, near = Editor(model), node(model, "Neg_y")
    outputs = [edit.add("Relu", [near.inputs[0]], near=near, base="a") for _ in range(2)]
    stored = [edit.constant("w", np.zeros(2, np.float32)) for _ in range(2)]
    assert [output.name for output in outputs] == ["a_1", "a_2"]
    assert [constant.name for constant in stored] == ["w_1", "w_2"]
    assert [output.inputs[0].name for output in outputs] == ["Relu_a_1", "Relu_a_2"]
    assert edit.add("Neg", [near.inputs[0]], near=near, base="Relu_a_1").name == "Relu_a_1_1"


def test_add_declares_what_it_is_told() -> None:
    model = parse(CHAIN.replace("g (", '<ir_version: 10, opset_import: ["" : 21]> g ('))
    edit, near = Editor(model), node(model, "Add_a")
    output = edit.add(
        "Thing",
        [near.inputs[0], None, near.inputs[1]],
        near=near,
        base="t",
        attrs={"i": 3, "f": 0.5, "s": "text", "ints": [1, 2], "t": np.float32([1])},
        domain="mine",
        dtype=np.dtype(np.float16),
        shape=["N", 2, None],
    )
    edit.redirect(_variable(model, "a"), output)
    edit.finish()
    message = exported(model)
    added = next(one for one in message.graph.node if one.op_type == "Thing")
    assert (added.domain, list(added.input)) == ("mine", ["x", "", "w"])
    assert {attribute.name for attribute in added.attribute} == {"i", "f", "s", "ints", "t"}
    assert ("mine", 1) in [(entry.domain, entry.version) for entry in message.opset_import]
    (info,) = [value for value in message.graph.value_info if value.name == "t"]
    assert info.type.tensor_type.elem_type == 10
    dims = info.type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value, dims[2].WhichOneof("value")) == ("N", 2, None)


def test_add_many() -> None:
    model = parse("g (float[4] x) => (float[2] y) { y = Neg(x) }")
    edit, near = Editor(model), node(model, "Neg_y")
    halves = edit.add_many(
        "Split", [near.inputs[0]], near=near, bases=["h", "h"], attrs={"num_outputs": 2}
    )
    edit.set_input(near, 0, halves[1])
    assert [half.name for half in halves] == ["h", "h_1"]
    np.testing.assert_array_equal(run(_finished(edit), x=np.float32([1, 2, 3, 4])), [-3, -4])


def test_every_edit_is_on_record() -> None:
    model = parse(CHAIN)
    edit, neg = Editor(model), node(model, "Neg_y")
    assert not edit.modified
    edit.skip(neg, "too small")
    assert not edit.modified
    assert edit.skips == [Skip("Neg_y", "Neg", "too small")]
    edit.set_input(neg, 0, tensor(model, "x"))
    edit.set_attribute(neg, "k", 3)
    edit.remove(node(model, "Mul_b"))
    edit.add("Abs", [tensor(model, "x")], near=neg, base="z")
    assert edit.changes == [
        Change(Action.CHANGED, "Neg_y", "Neg", "input 0 is now x"),
        Change(Action.CHANGED, "Neg_y", "Neg", "k = 3"),
        Change(Action.REMOVED, "Mul_b", "Mul"),
        Change(Action.ADDED, "Abs_z", "Abs"),
    ]
    assert edit.modified


def test_a_redirect_alone_counts_as_a_modification() -> None:
    model = parse(CHAIN)
    edit = Editor(model)
    edit.redirect(_variable(model, "b"), tensor(model, "a"))
    assert edit.modified


def test_set_values_is_copy_on_write() -> None:
    model = parse(CHAIN)
    shared = tensor(model, "w")
    assert isinstance(shared, Constant)
    edit = Editor(model)
    edit.set_values(node(model, "Mul_b"), 1, np.float32([5, 5]))
    assert node(model, "Add_a").inputs[1] is shared
    np.testing.assert_array_equal(shared.values, [1, 2])
    np.testing.assert_array_equal(run(_finished(edit), x=X), -5 * (X + np.float32([1, 2])))


def test_set_values_fills_in_for_one_reader_that_reads_twice() -> None:
    model = parse("g () => (float[2] y) <float[2] w = {1, 2}> { y = Add(w, w) }")
    edit = Editor(model)
    edit.set_values(node(model, "Add_y"), 0, np.float32([10, 20]))
    np.testing.assert_array_equal(run(_finished(edit)), [11, 22])


def test_set_input_fills_in_what_is_omitted_and_drop_input_cuts() -> None:
    model = parse("g (float[2] x) => (float[2] y) <float high = {0.5}> { y = Clip(x) }")
    edit, clip = Editor(model), node(model, "Clip_y")
    edit.set_input(clip, 2, tensor(model, "high"))
    assert [one.name for one in clip.inputs] == ["x", "", "high"]
    np.testing.assert_array_equal(run(_finished(edit), x=X), [0.5, -2])
    edit.drop_input(clip, 1)
    assert list(tensor(model, "high").outputs) == []
    np.testing.assert_array_equal(run(_finished(edit), x=X), X)


NEW = {
    "computed": ("h", ["Exp", "Abs", "Neg"]),
    "an input": ("x", ["Identity", "Exp", "Abs", "Neg"]),
    "stored": ("w", ["Identity", "Exp", "Abs", "Neg"]),
    "another output": ("z", ["Identity", "Exp", "Abs", "Neg"]),
}


@pytest.mark.parametrize("kind", NEW)
def test_an_output_keeps_its_name_whatever_takes_its_place(kind: str) -> None:
    name, expected = NEW[kind]
    model = parse("""g (float[2] x) => (float[2] y, float[2] z) <float[2] w = {7, 8}>
        { y = Exp(x)  h = Abs(x)  z = Neg(h) }""")
    model.graph.outputs[0].envelope.doc_string = "the output"  # type: ignore[union-attr]
    values = {"h": np.abs(X), "x": X, "w": np.float32([7, 8]), "z": -np.abs(X)}
    edit = Editor(model)
    edit.redirect(_variable(model, "y"), tensor(model, name))
    result = run(_finished(edit), x=X)
    assert list(result) == ["y", "z"]
    np.testing.assert_array_equal(result["y"], values[name])
    np.testing.assert_array_equal(result["z"], -np.abs(X))
    assert sorted(ops(model)) == sorted(expected)
    (y, _) = exported(model).graph.output
    assert (y.doc_string, y.type.tensor_type.shape.dim[0].dim_value) == ("the output", 2)


def test_readers_of_an_output_move_too_and_kept_ones_do_not() -> None:
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { y = Exp(x)  z = Neg(y) }")
    edit, exp = Editor(model), node(model, "Exp_y")
    doubled = edit.add("Add", [exp.outputs[0], exp.outputs[0]], near=exp, base="d")
    edit.redirect(exp.outputs[0], doubled, keep=doubled.inputs)
    result = run(_finished(edit), x=X)
    np.testing.assert_allclose(result["y"], 2 * np.exp(X), rtol=1e-6)
    np.testing.assert_allclose(result["z"], -2 * np.exp(X), rtol=1e-6)


def test_an_input_that_is_returned_as_it_stands_stays_so() -> None:
    model = parse("g (float[2] x) => (float[2] x, float[2] y) { y = Exp(x) }")
    edit, exp = Editor(model), node(model, "Exp_y")
    negative = edit.add("Neg", [model.graph.inputs[0]], near=exp, base="n")
    edit.redirect(model.graph.inputs[0], negative, keep=negative.inputs)
    result = run(_finished(edit), x=X)
    np.testing.assert_array_equal(result["x"], X)
    np.testing.assert_allclose(result["y"], np.exp(-X), rtol=1e-6)


BRANCHES = """g (bool b, float[2] x) => (float[2] y) {
    a = Abs(x)
    y = If (b) <then_branch = t () => (float[2] o) { h = Neg(a)  o = Exp(h) },
                else_branch = e () => (float[2] p) { p = Neg(a) }> }"""


def test_a_branch_never_returns_a_tensor_of_the_graph_around_it() -> None:
    model = parse(BRANCHES)
    edit = Editor(model)
    edit.bypass(node(model, "Neg_p"))
    np.testing.assert_array_equal(run(_finished(edit), b=np.array(False), x=X), np.abs(X))
    assert [len(body.nodes) for body in node(model, "If_y").bodies()] == [2, 1]


def test_nodes_land_in_the_graph_of_the_node_they_are_near() -> None:
    model = parse(BRANCHES)
    edit, exp = Editor(model), node(model, "Exp_o")
    edit.set_input(exp, 0, edit.add("Relu", [exp.inputs[0]], near=exp, base="r"))
    edit.finish()
    (then, other) = node(model, "If_y").bodies()
    assert [one.op for one in then.nodes] == ["Neg", "Exp", "Relu"]
    assert [one.op for one in model.graph.nodes] == ["Abs", "If"]
    assert len(other.nodes) == 1


def test_finish_puts_new_nodes_after_the_one_they_are_near() -> None:
    model = parse(CHAIN)
    edit, mul = Editor(model), node(model, "Mul_b")
    first = edit.add("Abs", [tensor(model, "a")], near=mul, base="f")
    edit.add("Exp", [first], near=mul, base="s")
    edit.add("Sign", [first], near=first.inputs[0], base="n")
    edit.redirect(_variable(model, "b"), first)
    edit.remove(mul)
    assert ops(model) == ["Add", "Mul", "Neg"]  # so that passes may loop while they edit
    edit.finish()
    assert ops(model) == ["Add", "Abs", "Sign", "Exp", "Neg"]
    edit.finish()
    assert ops(model) == ["Add", "Abs", "Sign", "Exp", "Neg"]


def test_remove_refuses_what_is_still_read() -> None:
    model = parse(CHAIN)
    edit = Editor(model)
    with pytest.raises(ModelError, match=r"node 'Add_a' \(Add\) is still read at 'a'"):
        edit.remove(node(model, "Add_a"))
    with pytest.raises(ModelError, match=r"'Neg_y' .* is still read at 'y'"):
        edit.remove(node(model, "Neg_y"))
    assert not edit.modified


def test_removing_an_if_frees_what_its_bodies_captured() -> None:
    model = parse(
        BRANCHES.replace("=> (float[2] y)", "=> (float[2] z)").replace("{\n", "{ z = Exp(x)\n", 1)
    )
    edit = Editor(model)
    edit.remove(node(model, "If_y"))
    assert list(_variable(model, "a").outputs) == []
    edit.remove(node(model, "Abs_a"))
    assert ops(_finished(edit)) == ["Exp"]


def test_bypass() -> None:
    model = parse("g (float[2] x) => (float[2] y) { a = Identity(x)  y = Exp(a) }")
    edit = Editor(model)
    edit.bypass(node(model, "Identity_a"))
    assert ops(_finished(edit)) == ["Exp"]
    np.testing.assert_allclose(run(model, x=X), np.exp(X), rtol=1e-6)


def test_remove_initializer() -> None:
    model = parse("g (float[2] x) => (float[2] y) <float[2] spare = {1, 2}> { y = Exp(x) }")
    edit = Editor(model)
    edit.remove_initializer(model.graph, model.graph.initializers[0])
    assert edit.changes == [Change(Action.REMOVED, "spare", "initializer")]
    assert not exported(model).graph.initializer


def test_new_values_are_frozen_with_the_edit() -> None:
    values = np.float32([5, 5])
    edit = Editor(parse(CHAIN))
    edit.set_values(node(edit.model, "Mul_b"), 1, values)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0
