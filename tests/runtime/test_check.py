import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import DataError, ModelError, SessionError
from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from onnxcompress.runtime import check
from onnxcompress.runtime.check import RunCheck
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import parse

TEXT = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"


def _after(before: str, after: str, *, exact: bool = True) -> str:
    return RunCheck(parse(before), RuntimeContext()).after(parse(after), exact=exact)


def test_equal_outputs() -> None:
    assert _after(TEXT, TEXT) == "outputs equal within 0e+00 (relative)"
    assert _after(TEXT, TEXT, exact=False) == "loads and runs"
    assert _after(TEXT, TEXT.replace("{1,", "{1.00001,")).startswith("outputs equal within 5e-06")


def test_outputs_that_should_be_equal_and_are_not() -> None:
    other = TEXT.replace("{1, 2}", "{1, 2.5}")
    with pytest.raises(ModelError, match="outputs should stay equal but differ by"):
        _after(TEXT, other)
    assert _after(TEXT, other, exact=False) == "loads and runs"


def test_each_step_is_compared_with_the_one_before() -> None:
    steps = [parse(TEXT.replace("{1, 2}", f"{{1, {value}}}")) for value in (2, 3, 3)]
    checks = RunCheck(steps[0], RuntimeContext())
    checks.after(steps[1], exact=False)
    assert checks.after(steps[2], exact=True) == "outputs equal within 0e+00 (relative)"


def test_a_failed_step_is_not_what_the_next_is_compared_with() -> None:
    checks = RunCheck(parse(TEXT), RuntimeContext())
    with pytest.raises(ModelError):
        checks.after(parse(TEXT.replace("{1,", "{7,")), exact=True)
    assert checks.after(parse(TEXT), exact=True) == "outputs equal within 0e+00 (relative)"


@pytest.mark.parametrize("exact", [True, False])
def test_callers_still_find_the_outputs_they_know(exact: bool) -> None:
    two = "g (float[2] x) => (float[2] y, float[2] z) { y = Exp(x)  z = Neg(x) }"
    with pytest.raises(ModelError, match="outputs changed from y, z to z, y"):
        _after(two, two.replace("float[2] y, float[2] z", "float[2] z, float[2] y"), exact=exact)
    with pytest.raises(ModelError, match="outputs changed from y to other"):
        _after(TEXT, TEXT.replace("y", "other"), exact=exact)
    cast = "g (float[2] x) => (int32[2] y) { y = Cast <to = 6> (x) }"
    with pytest.raises(ModelError, match="output 'y' changed from float32 to int32"):
        _after(TEXT, cast, exact=exact)
    with pytest.raises(SessionError, match="cannot run"):
        _after(TEXT, TEXT.replace("x", "renamed"), exact=exact)


def test_a_changed_shape() -> None:
    wide = "g (float[2] x) => (float[A, B] y) <int64[1] a = {0}> { y = Unsqueeze(x, a) }"
    with pytest.raises(ModelError, match=r"'y' changed from float32 \[2\] to float32 \[1, 2\]"):
        _after(TEXT, wide)


def test_a_model_that_no_longer_loads() -> None:
    with pytest.raises(SessionError, match="cannot load"):
        _after(TEXT, TEXT.replace("Add", "Nonsense"), exact=False)


@pytest.mark.parametrize(
    ("before", "after", "limit"),
    [
        ("inf", "inf", 0),
        ("nan", "nan", 0),
        ("nan", "0.0", np.inf),
        ("inf", "-inf", np.inf),
        ("1.0", "inf", np.inf),
        ("0.0", "0.25", 0.25),
        ("100.0", "101.0", 0.01),
    ],
)
def test_differences(before: str, after: str, limit: float) -> None:
    one, other = (np.float32([float(value), 0]) for value in (before, after))
    assert check._difference("y", one, other) == pytest.approx(limit)


def test_differences_of_other_kinds() -> None:
    def gap(one: object, other: object) -> float:
        return check._difference("y", one, other)

    assert gap(np.array([1, 2]), np.array([1, 2])) == 0
    assert gap(np.array([1, 2]), np.array([1, 3])) == np.inf
    assert gap(np.array([1 + 2j]), np.array([1 + 2j])) == 0
    assert gap(np.array([1 + 2j]), np.array([1 + 3j])) == 0.5
    assert gap(np.array(["a"], object), np.array(["a"], object)) == 0
    assert gap(np.array(["a"], object), np.array(["b"], object)) == np.inf
    bfloat = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    assert gap(np.array([1], bfloat), np.array([2], bfloat)) == 1
    assert gap(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    sequence = [np.zeros(2), np.ones(3)]
    assert gap(sequence, [np.zeros(2), np.ones(3)]) == 0
    assert gap(sequence, [np.zeros(2), 2 * np.ones(3)]) == 1
    assert gap(sequence, sequence[:1]) == np.inf
    assert gap([{1: 0.5}], [{1: 0.25}]) == 0.5
    assert gap([{1: 0.5}], [{2: 0.5}]) == np.inf
    assert gap(None, None) == 0
    assert gap(None, 1) == np.inf


def test_outputs_that_are_sequences() -> None:
    text = """g (float[4] x) => (seq(float[2]) y)
        { a, b = Split <num_outputs = 2> (x)  y = SequenceConstruct(a, b) }"""
    assert _after(text, text) == "outputs equal within 0e+00 (relative)"
    with pytest.raises(ModelError, match="should stay equal"):
        _after(text, text.replace("Construct(a, b)", "Construct(b, a)"))


def test_random_outputs_are_not_compared() -> None:
    text = "g (float[8] x) => (float[8] y) { r = RandomNormalLike(x)  y = Add(x, r) }"
    assert "outputs are random" in _after(text, text)


def test_a_quantized_model_may_move_by_a_level() -> None:
    text = """g (float[2] x) => (float[2] y) <float s = {0.1}, float z = {SHIFT}> {
        q = QuantizeLinear(x, s)  d = DequantizeLinear(q, s)  y = Add(d, z) }"""
    base = text.replace("SHIFT", "50.0")
    assert _after(base, text.replace("SHIFT", "50.5")).startswith("outputs equal within 1e-02")
    with pytest.raises(ModelError, match="should stay equal"):
        _after(base, text.replace("SHIFT", "60.0"))


def test_models_too_large_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MAX_RUN_BYTES", 7)
    checks = RunCheck(parse(TEXT.replace("Add", "Nonsense")), RuntimeContext())
    assert checks.after(parse(TEXT), exact=True).startswith("structure only: over")
    small = "g (float[2] x) => (float[2] y) { y = Neg(x) }"
    assert checks.after(parse(small), exact=True) == "loads and runs"  # no run to compare with
    assert checks.after(parse(small), exact=True) == "outputs equal within 0e+00 (relative)"


GATHER = """g (int64[2] x) => (float[2, 1] y) <float[3, 1] w = {1, 2, 3}, int64 far = {1000}>
    { i = Add(x, far)  y = Gather(w, i) }"""


def test_made_up_inputs_that_do_not_run_on_the_original_either() -> None:
    told = _after(GATHER, GATHER)
    assert told.startswith("loads; made-up inputs do not run on the original either: ")
    with pytest.raises(SessionError, match="cannot load"):
        _after(GATHER, GATHER.replace("Gather", "Nonsense"))


def test_with_data_the_original_has_to_run() -> None:
    model = parse(GATHER)
    signature = Session(io.to_bytes(model)).inputs
    good = RuntimeContext(dataset_of({"x": np.array([-1000, -998])}, signature))
    assert RunCheck(model, good).after(model, exact=True).startswith("outputs equal")
    bad = RuntimeContext(dataset_of({"x": np.array([0, 1])}, signature))
    with pytest.raises(SessionError, match="cannot run"):
        RunCheck(model, bad)


def test_inputs_for_which_nothing_can_be_made_up() -> None:
    info = helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, [2])
    output = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [])
    node = helper.make_node("SequenceLength", ["s"], ["y"])
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph([node], "g", [info], [output])

    def model() -> Model:
        return import_model(helper.make_model(graph, ir_version=8, opset_imports=opset))

    told = RunCheck(model(), RuntimeContext()).after(model(), exact=True)
    assert told.startswith("loads; made-up inputs do not run")
    with pytest.raises(DataError):
        RuntimeContext().sample(model())
