import numpy as np
import pytest

from onnxcompress.errors import ResourceError
from onnxcompress.ir import io
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.evaluate import evaluate
from tests.helpers import node, parse


def test_every_output_of_a_chain_by_name() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[4] w = {1, -2, 3, -4}> {
        a = Abs(w)  low, high = Split <num_outputs = 2> (a)  y = Add(x, high) }""")
    before = io.to_bytes(model)
    values = evaluate(model, [node(model, "Abs_a"), node(model, "Split_low")])
    assert {name: value.tolist() for name, value in values.items()} == {
        "a": [1, 2, 3, 4],
        "low": [1, 2],
        "high": [3, 4],
    }
    assert io.to_bytes(model) == before


def test_omitted_inputs_and_outputs() -> None:
    model = parse("""g () => (int64[K] n) <float[3] w = {1, 5, 1}, float top = {2}>
        { c = Clip(w, , top)  u, , n = Unique(c) }""")
    values = evaluate(model, [node(model, "Clip_c"), node(model, "Unique_u")])
    assert {name: value.tolist() for name, value in values.items()} == {
        "c": [1, 2, 1],
        "u": [1, 2],
        "n": [0, 1, 0],
    }


def test_an_if_whose_branches_read_stored_tensors() -> None:
    model = parse("""g () => (float[2] y) <bool b = {1}, float[2] w = {1, 2}> {
        y = If (b) <then_branch = t () => (float[2] o) { o = Neg(w) },
                    else_branch = e () => (float[2] p) { p = Exp(w) }> }""")
    assert evaluate(model, [node(model, "If_y")])["y"].tolist() == [-1, -2]


def test_functions_of_the_model_and_their_overloads() -> None:
    model = parse("""<ir_version: 10, opset_import: ["" : 21, "f" : 1]>
        g () => (float[2] y) <float[2] w = {1, 2}> { y = f.change:twice(w) }
        <domain: "f", overload: "twice", opset_import: ["" : 21]> change (a) => (b)
        { b = Add(a, a) }
        <domain: "f", overload: "not", opset_import: ["" : 21]> change (a) => (b)
        { b = Neg(a) }""")
    assert evaluate(model, model.graph.nodes)["y"].tolist() == [2, 4]


def test_what_cannot_be_computed() -> None:
    model = parse(
        "g () => (float[3] y) <float[2] v = {1, 2}, float[3] w = {1, 2, 3}> { y = Add(v, w) }"
    )
    with pytest.raises(ResourceError, match=r"node .Add_y. .*cannot be told"):
        evaluate(model, model.graph.nodes)


def test_no_nodes_need_no_session() -> None:
    assert RuntimeContext().evaluate(parse("g (float[1] x) => (float[1] x) {}"), []) == {}
    values = RuntimeContext().evaluate(
        model := parse("g () => (float[1] y) <float[1] w = {4}> { y = Sqrt(w) }"),
        model.graph.nodes,
    )
    np.testing.assert_array_equal(values["y"], [2])
