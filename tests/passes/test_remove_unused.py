import numpy as np
import onnx
import pytest

from onnxcompress.ir.clone import clone
from onnxcompress.ir.from_proto import import_model
from onnxcompress.passes import RemoveUnused
from tests.helpers import exported, ops, parse, proto

from .support import apply_exact

X = {"x": np.float32([1, -2])}


def test_chains_that_lead_nowhere_and_their_weights() -> None:
    model = parse("""g (float[2] x) => (float[2] y)
      <float[2] used = {1, 2}, float[2] dead = {3, 4}, float[2] lost = {5, 6}> {
      a = Add(x, dead)  b = Exp(a)  c, d = Split <num_outputs = 2> (b)  y = Add(x, used) }""")
    report = apply_exact(RemoveUnused(), model, X)
    assert ops(model) == ["Add"]
    assert [tensor.name for tensor in exported(model).graph.initializer] == ["used"]
    assert report.nodes_before == 4


def test_one_read_output_of_several_keeps_the_node() -> None:
    model = parse("""g (float[2] x) => (float[1] y) { a, b = Split <num_outputs = 2> (x)
      y = Neg(b) }""")
    assert not apply_exact(RemoveUnused(), model, X).modified


def test_graph_inputs_stay() -> None:
    model = parse("g (float[2] x, float[2] extra) => (float[2] y) { a = Neg(extra)  y = Neg(x) }")
    apply_exact(RemoveUnused(), model, {**X, "extra": X["x"]})
    assert [tensor.name for tensor in model.graph.inputs] == ["x", "extra"]


@pytest.mark.parametrize("choice", [True, False])
def test_inside_branches(choice: bool) -> None:
    model = parse("""g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
      o = Exp(x)
      y = If (c) <
        then_branch = t () => (float[2] r) { k = Neg(o)  r = Neg(x) },
        else_branch = e () => (float[2] s) { s = Add(x, w) }> }""")
    apply_exact(RemoveUnused(), model, {**X, "c": np.array(choice)})
    assert sorted(ops(model)) == ["Add", "If", "Neg"]


def test_an_unused_if_takes_what_its_nested_bodies_read_with_it() -> None:
    model = parse("""g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
      p = Exp(x)  q = Abs(x)
      z = If (c) <
        then_branch = t () => (float[2] r) {
          r = If (c) <
            then_branch = tt () => (float[2] rr) { rr = Add(p, w) },
            else_branch = te () => (float[2] rs) { rs = Identity(q) }> },
        else_branch = e () => (float[2] s) { s = Identity(p) }>
      y = Neg(x) }""")
    apply_exact(RemoveUnused(), model, {**X, "c": np.array(True)})
    assert ops(model) == ["Neg"]
    assert not exported(model).graph.initializer


TRACE = 'File "/home/somebody/train.py", line 12, in forward'


def traced() -> onnx.ModelProto:
    """A model with a trace wherever the format has room for one, beside entries to keep."""
    model = proto("""g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
        { h = Add(x, w)  y = Neg(h) }""")
    info = model.graph.value_info.add(name="h")
    info.type.CopyFrom(model.graph.input[0].type)
    places = [model, model.graph, info, *model.graph.node, *model.graph.initializer]
    for place in [*places, *model.graph.input, *model.graph.output]:
        place.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=TRACE)
        place.metadata_props.add(key="my.source", value=TRACE)
        place.metadata_props.add(key="author", value="somebody")
    model.graph.node[0].doc_string = "# /home/somebody/net.py:7:0\n"
    model.graph.node[1].doc_string = "the opposite"
    return model


def test_traces_of_the_exporter_are_dropped() -> None:
    model = import_model(traced())
    before = clone(model)
    report = apply_exact(RemoveUnused(), model, X)
    assert [change.detail for change in report.changes] == [
        "dropped 17 stack traces and debugging entries of the exporter"
    ]
    after = exported(model)
    assert b"/home/somebody" not in after.SerializeToString()
    assert b"stack_trace" not in after.SerializeToString()
    assert after.SerializeToString().count(b"author") == 8
    assert [node.doc_string for node in after.graph.node] == ["", "the opposite"]
    assert exported(before).SerializeToString().count(b"/home/somebody") == 17


def test_traces_can_be_kept() -> None:
    model = import_model(traced())
    assert not apply_exact(RemoveUnused(keep_traces=True), model, X).modified
    assert exported(model).SerializeToString().count(b"/home/somebody") == 17
