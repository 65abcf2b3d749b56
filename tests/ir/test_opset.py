import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxcompress.errors import ModelError
from onnxcompress.ir import opset
from onnxcompress.ir.clone import clone
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.opset import require_opset
from onnxcompress.ir.verify import verify
from tests.helpers import assert_same_outputs, exported, outputs, parse, proto, run, tensor

RNG = np.random.default_rng(0)
OLD = """<ir_version: {ir}, opset_import: ["" : 9]> g (float[N, 4] x) => (float[N, 6] y)
    <float[4] low = {{1, 2, 3, 4}}> {{
    a = Add(x, low)
    c = Clip <min = -1.0, max = 2.5> (a)
    s = Softmax <axis = 1> (c)
    u = Unsqueeze <axes = [0]> (s)
    q = Squeeze <axes = [0]> (u)
    p = Pad <pads = [0, 1, 0, 1], value = 0.5> (q)
    d = Dropout <ratio = 0.5> (p)
    r = Slice <axes = [1], starts = [0], ends = [6]> (d)
    y = ReduceSum <axes = [0], keepdims = 1> (r)
}}"""
X = RNG.standard_normal((3, 4), np.float32)


def _raised(model: Model, version: int = 13) -> Model:
    copy = clone(model)
    assert require_opset(copy, version)
    assert copy.opset == version
    verify(copy)
    onnx.checker.check_model(exported(copy))
    return copy


@pytest.mark.parametrize("ir", [3, 4, 8])
@pytest.mark.parametrize("version", [10, 13, 17, 21])
def test_outputs_stay(ir: int, version: int) -> None:
    message = proto(OLD.format(ir=ir))
    if ir == 3:
        message.graph.input.append(helper.make_tensor_value_info("low", 1, [4]))
    model = import_model(message)
    raised = _raised(model, version)
    np.testing.assert_allclose(run(raised, x=X), run(model, x=X), rtol=1e-6)
    assert [value.name for value in raised.graph.inputs] == ["x"]
    assert {"low"} <= {constant.name for constant in raised.constants()}
    assert not raised.graph.defaults


def test_a_model_that_is_new_enough_is_left_alone() -> None:
    model = parse(OLD.format(ir=8))
    before = exported(model)
    assert not require_opset(model, 9)
    assert not require_opset(model, 7)
    assert exported(model) == before


def test_the_ir_version_follows() -> None:
    raised = _raised(parse(OLD.format(ir=4)), 21)
    assert raised.envelope.ir_version == 10
    assert _raised(parse(OLD.format(ir=8)), 10).envelope.ir_version == 8


def test_what_the_file_says_is_put_back() -> None:
    message = proto("""<ir_version: 8, opset_import: ["" : 9, "com.microsoft" : 1]>
        g (float[N, 4] x) => (float[M, 4] y) <float[N, 4] a> {
        a = com.microsoft.Gelu(x)  b = Mul(a, w)  y = Clip <min = 0.0> (b) }""")
    message.graph.initializer.append(numpy_helper.from_array(np.float32([1, 2, 3, 4]), "w"))
    message.graph.initializer.append(numpy_helper.from_array(np.float32([0]), "spare"))
    message.metadata_props.add(key="model", value="m")
    graph = message.graph
    graph.quantization_annotation.add(tensor_name="a")
    for thing in (
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
        graph.value_info[0],
    ):
        thing.name = thing.name or f"node {thing.op_type}"
        thing.doc_string = f"doc of {thing.name}"
        thing.metadata_props.add(key="key", value=f"note on {thing.name}")
    graph.doc_string = "of the graph"
    graph.metadata_props.add(key="graph", value="g")

    model = import_model(message)
    before = exported(model)
    raised = _raised(model)
    after = exported(raised)
    assert after.metadata_props == before.metadata_props
    assert [(one.domain, one.version) for one in after.opset_import] == [
        ("", 13),
        ("com.microsoft", 1),
    ]
    for field in ("doc_string", "metadata_props", "quantization_annotation", "input", "output"):
        assert getattr(after.graph, field) == getattr(before.graph, field), field
    assert [one.name for one in after.graph.initializer[:2]] == ["w", "spare"]
    for one in (*after.graph.node, *after.graph.initializer[:2]):
        assert one.doc_string == f"doc of {one.name}"
        assert one.metadata_props[0].value == f"note on {one.name}"
    (described,) = [one for one in after.graph.value_info if one.name == "a"]
    assert described == before.graph.value_info[0]
    assert [one.domain for one in after.graph.node] == ["com.microsoft", "", ""]
    np.testing.assert_allclose(run(raised, x=X), run(model, x=X), rtol=1e-6)


def test_weights_do_not_pass_through_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    message = proto("""<ir_version: 8, opset_import: ["" : 9]> g (bool b, float[N, 64] x)
        => (float[N, 64] y) { h = MatMul(x, big)
        y = If (b) <then_branch = t () => (float[N, 64] o) { o = MatMul(h, inner) },
                    else_branch = e () => (float[N, 64] p) { p = Add(h, half_cast) }> }""")
    big, inner = (RNG.standard_normal((64, 64), np.float32) for _ in range(2))
    message.graph.initializer.append(numpy_helper.from_array(big, "big"))
    branch = message.graph.node[1].attribute[0].g
    branch.initializer.append(numpy_helper.from_array(inner, "inner"))
    half = numpy_helper.from_array(np.ones(64, np.float16), "half")
    message.graph.initializer.append(half)
    cast = helper.make_node("Cast", ["half"], ["half_cast"], to=1)
    message.graph.node.insert(0, cast)
    model = import_model(message)
    seen: list[int] = []
    convert = opset.version_converter.convert_version
    monkeypatch.setattr(
        opset.version_converter,
        "convert_version",
        lambda proto, version: seen.append(proto.ByteSize()) or convert(proto, version),
    )
    raised = _raised(model)
    assert seen[0] < 2000
    for name in ("big", "inner", "half"):
        old, new = tensor(model, name), tensor(raised, name)
        assert isinstance(old, Constant)
        assert isinstance(new, Constant)
        assert np.shares_memory(old.values, new.values)
    stored = exported(raised).graph
    assert [one.name for one in stored.initializer] == ["big", "half"]
    assert [one.name for one in stored.input] == ["b", "x"]
    feeds = {"x": RNG.standard_normal((2, 64), np.float32)}
    for choice in (True, False):
        feeds["b"] = np.array(choice)
        assert_same_outputs(outputs(model, feeds), outputs(raised, feeds))


def test_weights_that_branches_call_by_one_name() -> None:
    message = proto("""<ir_version: 8, opset_import: ["" : 9]> g (bool b, float[N, 2000] x)
        => (float[N, 2000] y) {
        y = If (b) <then_branch = t () => (float[N, 2000] o) { o = Add(x, w) },
                    else_branch = e () => (float[N, 2000] o) { o = Add(x, w) }> }""")
    for index, attribute in enumerate(message.graph.node[0].attribute):
        values = np.full(2000, index + 1, np.float32)
        attribute.g.initializer.append(numpy_helper.from_array(values, "w"))
    raised = _raised(import_model(message))
    x = np.zeros((1, 2000), np.float32)
    assert (run(raised, b=np.array(True), x=x) == 1).all()
    assert (run(raised, b=np.array(False), x=x) == 2).all()


def test_sparse_functions_and_overridable_values_come_through() -> None:
    message = proto("""<ir_version: 8, opset_import: ["" : 9, "f" : 1]>
        g (float[4] x, float[4] given) => (float[4] y) {
        a = Add(x, sparse)  b = Add(a, given)  y = f.twice(b) }
        <domain: "f", opset_import: ["" : 13]> twice (i) => (o) { o = Add(i, i) }""")
    message.graph.initializer.append(numpy_helper.from_array(np.float32([1, 1, 1, 1]), "given"))
    sparse = message.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(numpy_helper.from_array(np.float32([5]), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([2])))
    model = import_model(message)
    raised = _raised(model)
    after = exported(raised)
    assert after.graph.sparse_initializer == exported(model).graph.sparse_initializer
    assert after.functions == exported(model).functions
    assert list(raised.graph.defaults) == ["given"]
    assert [value.name for value in raised.graph.inputs] == ["x", "given"]
    assert [one.name for one in after.graph.initializer] == ["given"]


def test_older_functions_are_inlined() -> None:
    model = parse("""<ir_version: 8, opset_import: ["" : 9, "f" : 1]>
        g (float[2, 3] x) => (float[2, 3] y) <float[3] w = {1, 2, 3}>
        { a = Add(x, w)  y = f.normal(a) }
        <domain: "f", opset_import: ["" : 9]> normal (i) => (o)
        { c = Clip <max = 1.0> (i)  o = Softmax <axis = 0> (c) }""")
    x = RNG.standard_normal((2, 3), np.float32)
    expected = run(model, x=x)
    raised = _raised(model)
    np.testing.assert_allclose(run(raised, x=x), expected, rtol=1e-6)
    assert not raised.envelope.functions
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-6)  # opset 9 flattens, 13 does not


def test_a_model_of_other_domains_alone() -> None:
    model = parse("""<ir_version: 8, opset_import: ["com.microsoft" : 1]>
        g (float[2] x) => (float[2] y) { y = com.microsoft.Gelu(x) }""")
    assert require_opset(model, 13)
    assert model.opset == 13
    assert run(model, x=np.float32([0, 0])).tolist() == [0, 0]


def test_what_cannot_be_converted_leaves_the_model_as_it_was() -> None:
    model = parse("""<ir_version: 8, opset_import: ["" : 9]> g (float[2] x) => (float[2] y)
        { y = NoSuchOperator(x) }""")
    before = exported(model)
    with pytest.raises(ModelError, match="cannot be raised from opset 9 to 13: ") as caught:
        require_opset(model, 13)
    assert "\n" not in str(caught.value)
    assert exported(model) == before
