import numpy as np

from onnxcompress.clean import remove_unused
from onnxcompress.ir.edit import Action, Change, Editor
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from onnxcompress.ir.verify import verify
from tests.helpers import exported, ops, parse, proto, run


def _cleaned(model: Model) -> list[Change]:
    edit = Editor(model)
    remove_unused(model, edit)
    verify(model)
    again = Editor(model)
    remove_unused(model, again)
    assert not again.modified
    return edit.changes


def test_nothing_to_do() -> None:
    model = parse("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    before = exported(model)
    assert _cleaned(model) == []
    assert exported(model) == before


def test_dead_chains_and_their_weights_go() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[2] w = {1, 2}, float[2] v = {3, 4}>
        { a = Add(x, w)  b = Mul(a, v)  c = Neg(b)  y = Sub(x, w) }""")
    assert _cleaned(model) == [
        Change(Action.REMOVED, "Neg_c", "Neg"),
        Change(Action.REMOVED, "Mul_b", "Mul"),
        Change(Action.REMOVED, "Add_a", "Add"),
        Change(Action.REMOVED, "v", "initializer"),
    ]
    assert ops(model) == ["Sub"]
    np.testing.assert_array_equal(run(model, x=np.zeros(2, np.float32)), [-1, -2])


def test_dead_chains_in_a_graph_that_is_not_sorted_yet() -> None:
    model = parse("""g (float[2] x) => (float[2] y)
        { y = Exp(x)  c = Neg(b)  b = Abs(a)  a = Sign(x) }""")
    assert len(_cleaned(model)) == 3
    assert ops(model) == ["Exp"]


def test_a_node_stays_while_one_of_its_outputs_is_used() -> None:
    model = parse("""g (float[4] x) => (float[2] y)
        { a, b = Split <num_outputs = 2> (x)  u, i, j, n = Unique(x)  y = Neg(b) }""")
    _cleaned(model)
    assert ops(model) == ["Split", "Neg"]


def test_outputs_that_are_stored_or_inputs_stay() -> None:
    model = parse("g (float[2] x) => (float[2] x, float[2] w) <float[2] w = {1, 2}> {}")
    assert _cleaned(model) == []
    assert [one.name for one in model.graph.initializers] == ["w"]


def test_overridable_inputs_stay() -> None:
    message = proto("g (float[2] x, float[2] w) => (float[2] y) { y = Exp(x) }")
    message.graph.initializer.append(
        proto("g () => (float[2] w) <float[2] w = {1, 2}> {}").graph.initializer[0]
    )
    model = import_model(message)
    assert _cleaned(model) == []
    assert exported(model).graph.initializer[0].name == "w"


NESTED = """g (bool b, float[2] x) => (float[2] z) <float[2] w = {1, 2}> {
    a = Abs(x)
    y = If (b) <
        then_branch = t () => (float[2] o) {
            o = If (b) <then_branch = tt () => (float[2] oo) { oo = Add(a, w) },
                        else_branch = te () => (float[2] ot) { ot = Abs(x) }> },
        else_branch = e () => (float[2] p) { p = Neg(x) }>
    z = Exp(x)
}"""


def test_a_dead_if_takes_along_what_only_its_bodies_read() -> None:
    model = parse(NESTED)
    changes = _cleaned(model)
    assert ops(model) == ["Exp"]
    assert [change.node for change in changes] == ["If_y", "Abs_a", "w"]
    assert not exported(model).graph.initializer


def test_inside_bodies_too() -> None:
    model = parse(
        NESTED.replace("=> (float[2] z)", "=> (float[2] y)", 1).replace(
            "{ p = Neg(x) }", "{ dead = Exp(x)  p = Neg(x) }"
        )
    )
    assert sorted(change.node for change in _cleaned(model)) == ["Exp_dead", "Exp_z"]
    x = np.array([1, -2], np.float32)
    np.testing.assert_array_equal(run(model, b=np.array(True), x=x), np.abs(x) + np.float32([1, 2]))
    np.testing.assert_array_equal(run(model, b=np.array(False), x=x), -x)
