"""Raising a model leaves what it computes, whatever an operator set changed."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from onnx import defs

from onnxcompress.errors import ModelError, PassError
from onnxcompress.ir import opset_changes
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.ir.opset import require_opset
from onnxcompress.ir.opset_changes import CHANGES
from onnxcompress.ir.verify import verify
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeWeights
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import ops, outputs, parse, run
from tests.passes.support import model_of, normal

from .older_forms import FORMS, Form

OLDEST, LATEST = 7, 21
"""What onnxruntime runs, and what the passes ask for."""

ADDED = {
    ("Constant", 11): "stored tensors do not pass through the converter",
    ("Constant", 12): "as 11",
    ("RNN", 14): "layout, 0 by default, as it was; see GRU and LSTM",
    ("CastLike", 19): "saturate, true by default, as it was; float8 came with it",
    ("OptionalHasElement", 18): "its input may be left out",
    ("Scan", 9): "refused",
}
"""Changes that no form shows."""


def _changes() -> set[tuple[str, int]]:
    """Operator and version of changes of more than element types."""
    history: dict[str, list[defs.OpSchema]] = defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= LATEST:
            history[schema.name].append(schema)
    found = set()
    for op, schemas in history.items():
        schemas.sort(key=lambda schema: schema.since_version)
        for before, after in itertools.pairwise(schemas):
            if after.since_version > OLDEST and _form(before) != _form(after):
                found.add((op, after.since_version))
    return found


def _form(schema: defs.OpSchema) -> object:
    parameters = [[str(each.option) for each in side] for side in (schema.inputs, schema.outputs)]
    attributes = {
        name: (str(each.type), each.required, str(each.default_value))
        for name, each in schema.attributes.items()
    }
    return attributes, parameters, schema.deprecated


def test_every_change_is_shown_by_a_form() -> None:
    shown = {(node.op, form.opset) for form in FORMS for node in parse(form.text).graph.nodes}
    for op, since in _changes():
        if (op, since) not in ADDED:
            written = [version for name, version in shown if name == op]
            assert any(version < since for version in written), f"{op}, changed by opset {since}"


def test_what_is_raised_here_is_a_change_that_onnx_knows() -> None:
    known = {(schema.name, schema.since_version) for schema in defs.get_all_schemas_with_history()}
    for op, change in CHANGES.items():
        assert (op, change.since) in known or op == "Upsample"


def _feeds(model: Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for tensor in model.graph.inputs:
        assert tensor.shape is not None and tensor.dtype is not None
        shape = [each if isinstance(each, int) else 6 for each in tensor.shape]
        made = rng.standard_normal(shape) if tensor.dtype.kind == "f" else np.ones(shape)
        feeds[tensor.name] = made.astype(tensor.dtype)
    return feeds


def _special(form: Form, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "s" in feeds and feeds["s"].dtype == np.int64:
        feeds["s"] = np.array([4, 6])
    if "t" in feeds and "Resize" in form.nodes:
        feeds["t"] = np.array([1, 1, 0.6, 1.7], np.float32)
    return feeds


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.opset} {form.nodes}")
def test_outputs_stay(form: Form) -> None:
    model = parse(form.text)
    feeds = _special(form, _feeds(model))
    expected = outputs(model, feeds)
    for version in (11, 13, 18, LATEST):
        if version > form.opset and (version > 11 or "float[] m" not in form.outputs):
            raised = clone(model)
            require_opset(raised, version)
            verify(raised)
            actual = outputs(raised, feeds)
            assert list(actual) == list(expected)
            for name, value in expected.items():
                assert actual[name].shape == value.shape
                if name != "m":  # Dropout's mask of opset 7 was of numbers
                    assert actual[name].dtype == value.dtype
                np.testing.assert_allclose(
                    actual[name].astype(np.float64), value.astype(np.float64), atol=1e-6
                )


def test_what_a_growing_map_becomes() -> None:
    """Values as onnxruntime computed them from the older forms: the left neighbour's share."""
    x = np.array([[[[0, 4, 8]]]], np.float32)
    for form in (
        Form(
            9,
            "float[1, 1, 1, 3] x",
            'Upsample <mode = "linear"> (x, s)',
            "float[4] s = {1, 1, 1, 2}",
        ),
        Form(
            10,
            "float[1, 1, 1, 3] x",
            'Resize <mode = "linear"> (x, s)',
            "float[4] s = {1, 1, 1, 2}",
        ),
    ):
        model = parse(form.text)
        require_opset(model, 13)
        assert ops(model) == ["Resize"]
        assert run(model, x=x).reshape(-1).tolist() == [0, 2, 4, 6, 8, 8]


def test_the_nearest_of_a_shrinking_axis_is_the_one_behind() -> None:
    model = parse(
        Form(10, "float[1, 1, 2, 5] x", "Resize(x, s)", "float[4] s = {1, 1, 2, 0.6}").text
    )
    x = np.arange(10, dtype=np.float32).reshape(1, 1, 2, 5)
    require_opset(model, 13)
    assert ops(model) == ["Resize", "Resize"]
    np.testing.assert_array_equal(run(model, x=x)[0, 0, ::2], x[0, 0][:, [0, 2, 4]])


def test_a_scale_for_each_group_becomes_one_for_each_channel() -> None:
    text = "GroupNormalization <num_groups = 2> (x, s, b)"
    stored = "float[2] s = {1, 3}, float[2] b = {0, 5}"
    model = parse(Form(18, "float[N, 4, 3] x", text, stored).text)
    x = normal(2, 4, 3)
    expected = run(model, x=x)
    require_opset(model, 21)
    assert ops(model) == ["GroupNormalization"]
    (node,) = model.graph.nodes
    assert [each.values.tolist() for each in list(node.inputs)[1:]] == [[1, 1, 3, 3], [0, 0, 5, 5]]
    np.testing.assert_allclose(run(model, x=x), expected, atol=1e-6)


def test_bodies_are_raised_alike() -> None:
    model = parse("""<ir_version: 4, opset_import: ["" : 9]> g (bool c, float[1, 2, 4, 4] x)
        => (float[n, k, h, w] y) <float[4] s = {1, 1, 2, 1.5}> {
        y = If (c) <then_branch = t () => (float[n, k, h, w] o)
                      { o = Upsample <mode = "linear"> (x, s) },
                    else_branch = e () => (float[a, b, d, f] p)
                      { m = Hardmax(x)  p = Upsample(m, s) }> }""")
    x = normal(1, 2, 4, 4)
    for choice in (True, False):
        feeds = {"c": np.array(choice), "x": x}
        raised = clone(model)
        require_opset(raised, 13)
        np.testing.assert_allclose(run(raised, **feeds), run(model, **feeds), atol=1e-6)


def test_lengths_that_the_converter_makes_up_are_dropped() -> None:
    """It called the length of both members of a sequence `unk__0`, and onnxruntime believed it."""
    text = """<ir_version: 6, opset_import: ["" : 11]> g (float[N, 6, 4] x) => (float[N, 6, 2] y)
        <int64[2] lengths = {2, 4}, int64 zero = {0}, int64 one = {1}> {
        q = SplitToSequence <axis = 1> (x, lengths)
        a = SequenceAt(q, zero)  b = SequenceAt(q, one)  c = Sigmoid(a)  d = Sigmoid(b)
        e = Mul(a, c)  f = Mul(b, d)  h = Concat <axis = 1> (e, f)  y = MatMul(h, w) }"""
    model = model_of(text, w=normal(4, 2))
    x = normal(3, 6, 4)
    expected = run(model, x=x)
    report = PassManager([QuantizeWeights(min_elements=1)]).run(model, RuntimeContext())[0]
    assert report.modified and model.opset > 11
    assert not any(
        "unk" in str(tensor.shape) for node in model.graph.nodes for tensor in node.outputs
    )
    np.testing.assert_allclose(run(model, x=x), expected, atol=0.1)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (
            Form(
                8,
                "float[2, 3, 4] x, float[2, 4] z",
                "s, y = Scan <num_scan_inputs = 1, body = b (float[4] u, float[4] v) => "
                "(float[4] o, float[4] p) { o = Add(u, v)  p = Identity(o) }> ( , z, x)",
                outputs="float[] s, float[] y",
            ),
            "cannot be raised from opset 8 to 13: node 'Scan_s' .Scan. has an axis for samples",
        ),
        (
            Form(
                7,
                "float[2, 3, 2, 2] x",
                "MeanVarianceNormalization <normalize_variance = 0> (x)",
            ),
            "cannot be raised from opset 7 to 13: node '.*' .MeanVarianceN.* the mean away alone",
        ),
    ],
    ids=["Scan", "MeanVarianceNormalization"],
)
def test_what_has_no_later_form_says_so(form: Form, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        require_opset(parse(form.text), 13)


def test_the_guard_names_node_and_operator_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the repair switched off, as if another operator changed unnoticed."""
    monkeypatch.setattr(opset_changes, "CHANGES", {})
    model = model_of(
        '<ir_version: 4, opset_import: ["" : 9]> g (float[N, 2, 4, 4] x) => (float[N, 2, 8, 8] y) '
        '<float[4] s = {1, 1, 2, 2}> { a = Conv(x, w) [small] h = Hardmax(a) '
        "[wide] y = Upsample(h, s) }",
        w=np.ones((2, 2, 1, 1), np.float32),
    )  # fmt: skip
    with pytest.raises(PassError) as caught:
        PassManager([QuantizeWeights()]).run(model, RuntimeContext())
    told = str(caught.value)
    assert f"cannot be raised from opset 9 to {QuantizeWeights().required_opset()}" in told
    assert "from node 'small' (Hardmax) on, outputs should stay equal but differ by" in told
