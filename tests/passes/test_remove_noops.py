import numpy as np
import pytest

from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import RemoveNoOps
from tests.helpers import node, ops, parse

from .support import apply, apply_exact, opset, reasons

X = {"x": np.array([[1.5, -2.0, 0.0], [np.nan, 3.0, np.inf]], np.float32)}

CONSTANTS = """<float one = {1}, float[1] one_1 = {1}, float[1, 1, 1] one_111 = {1},
  float[3] ones = {1, 1, 1}, float zero = {0}, float[1] minus_zero = {-0.0}, float two = {2},
  int64[4] no_pads = {0, 0, 0, 0}, int64[4] pads = {0, 1, 0, 0}, float r = {0.5},
  bool no = {0}, bool yes = {1}, int64[2] s_32 = {3, 2}, int64[2] s_m1 = {-1, 2},
  int64[2] s_0 = {0, -1}, int64[3] s_0e = {0, 2, 1}>"""


def _model(body: str, header: str = "") -> str:
    return f"{header} g (float[2, 3] x) => (float[a, b] y) {CONSTANTS} {{ {body} y = Neg(t) }}"


@pytest.mark.parametrize(
    "call",
    [
        "Identity(x)",
        "Dropout(x)",
        "Dropout(x, r)",
        "Dropout(x, r, no)",
        "Cast <to = 1> (x)",
        "Transpose <perm = [0, 1]> (x)",
        "Pad(x, no_pads)",
        "Pad <mode = 'reflect'> (x, no_pads)",
        "Concat <axis = 1> (x)",
        "Sum(x)",
        "Mean(x)",
        "Max(x)",
        "Min(x)",
        "Mul(x, one)",
        "Mul(one, x)",
        "Mul(x, one_1)",
        "Div(x, one)",
        "Add(x, zero)",
        "Add(minus_zero, x)",
        "Sub(x, zero)",
    ],
)
def test_each_entry_of_the_table_goes(call: str) -> None:
    model = parse(_model(f"t = {call.replace(chr(39), chr(34))}"))
    apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Neg"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[n] t = Cast <to = 10> (x)", None),
        ("[n] t = Transpose <perm = [1, 0]> (x)", None),
        ("[n] t = Transpose(x)", None),
        ("[n] t = Pad(x, pads)", None),
        ("[n] t = Concat <axis = 1> (x, x)", None),
        ("[n] t = Sum(x, x)", None),
        ("[n] t = Mul(x, two)", None),
        ("[n] t = Add(x, one)", None),
        ("[n] t = Sub(zero, x)", None),
        ("[n] t = Div(one, x)", None),
        ("[n] t = Mul(x, ones)", "its operand [3] may widen the other"),
        ("[n] u = Mul(x, one_111)  t = Squeeze(u)", "its operand [1, 1, 1] may add an axis"),
    ],
)
def test_near_misses_stay(body: str, reason: str | None) -> None:
    output = "float16[a, b] y" if "to = 10" in body else "float[a, b] y"
    model = parse(_model(body).replace("float[a, b] y", output))
    before = ops(model)
    report = apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == before
    assert reasons(report) == ({} if reason is None else {"n": reason})


def test_multiplying_by_ones_may_widen() -> None:
    model = parse("""g (float[2, 1] x) => (float[2, 3] y) <float[3] ones = {1, 1, 1}> {
      [n] y = Mul(x, ones) }""")
    report = apply_exact(RemoveNoOps(), model, {"x": np.float32([[1], [2]])})
    assert reasons(report) == {"n": "its operand [3] may widen the other"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[n] t = Dropout(x, r, yes)", "may drop at random: training_mode is not stored as false"),
        ("[n] t, m = Dropout(x)  k = Cast <to = 1> (m)  z = Neg(k)", "its mask is read"),
        ("[n] t, z = Dropout(x)", "its mask is read"),
    ],
)
def test_dropout_that_does_something(body: str, reason: str) -> None:
    kind = "bool" if "t, z" in body else "float"
    returned = f", {kind}[a, b] z" if "z" in body else ""
    model = parse(_model(body).replace("float[a, b] y", f"float[a, b] y{returned}"))
    report = apply(RemoveNoOps(), model)
    assert not report.modified
    assert reasons(report) == {"n": reason}


def test_integers_too() -> None:
    model = parse("""g (int64[2] x) => (int64[2] y) <int64 one = {1}, int64 zero = {0}> {
      a = Mul(x, one)  b = Add(a, zero)  c = Div(b, one)  y = Neg(c) }""")
    apply_exact(RemoveNoOps(), model, {"x": np.array([-3, 5])})
    assert ops(model) == ["Neg"]


def test_transposes_that_cancel_or_combine() -> None:
    model = parse("""g (float[2, 3, 4] x) => (float[2, 3, 4] y, float[a, b, c] z) {
      t = Transpose <perm = [2, 0, 1]> (x)  u = Transpose <perm = [1, 2, 0]> (t)  y = Neg(u)
      v = Transpose <perm = [1, 0, 2]> (t)  z = Neg(v) }""")
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    apply_exact(RemoveNoOps(), model, {"x": x})
    assert ops(model) == ["Neg", "Transpose", "Neg"]
    assert node(model, "Transpose_v").ints_attr("perm") == (0, 2, 1)


def test_transposes_without_perm_reverse() -> None:
    model = parse("""g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
      t = Transpose(x)  u = Transpose(t)  y = Neg(u)
      v = Transpose <perm = [1, 0]> (t)  z = Neg(v) }""")
    apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Neg", "Neg"]


def test_a_cancelling_pair_between_graph_input_and_output_stays() -> None:
    model = parse("""g (float[2, 3] x) => (float[2, 3] y) {
      t = Transpose(x)  [last] y = Transpose(t) }""")
    report = apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Transpose", "Transpose"]
    assert reasons(report) == {"last": "gives a graph input or stored tensor the name of an output"}


def test_three_transposes_become_one() -> None:
    model = parse("""g (float[2, 3, 4] x) => (float[a, b, c] y) {
      t = Transpose <perm = [1, 2, 0]> (x)  u = Transpose <perm = [0, 2, 1]> (t)
      y = Transpose <perm = [2, 1, 0]> (u) }""")
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    apply_exact(RemoveNoOps(), model, {"x": x})
    assert ops(model) == ["Transpose"]


@pytest.mark.parametrize("shape", ["s_32", "s_m1"])
def test_a_reshape_of_a_reshape_is_one(shape: str) -> None:
    model = parse(_model(f"u = Reshape(x, s_32)  t = Reshape(u, {shape})"))
    apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Reshape", "Neg"]


def test_a_reshape_that_copies_a_length_stays() -> None:
    model = parse(_model("[first] u = Reshape(x, s_32)  [n] t = Reshape(u, s_0)"))
    report = apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Reshape", "Reshape", "Neg"]
    assert reasons(report) == {"n": "copies lengths (0) from 'first'"}


def test_zero_means_zero_with_allowzero() -> None:
    model = parse("""g (float[0, 3] x) => (float[a, b] y)
      <int64[2] s = {3, 0}, int64[2] t = {0, 5}> {
      u = Reshape <allowzero = 1> (x, s)  v = Reshape <allowzero = 1> (u, t)  y = Neg(v) }""")
    apply_exact(RemoveNoOps(), model, {"x": np.zeros((0, 3), np.float32)})
    assert ops(model) == ["Reshape", "Neg"]


def test_a_reshape_to_a_computed_shape_stays() -> None:
    model = parse("""g (float[2, 3] x, float[N, M] like) => (float[a, b] y)
      <int64[2] s = {3, 2}> { n = Shape(like)
      [first] u = Reshape(x, s)  [last] t = Reshape(u, n)  y = Neg(t) }""")
    report = apply_exact(RemoveNoOps(), model, {**X, "like": np.zeros((6, 1), np.float32)})
    assert reasons(report) == {"last": "the shape it gives to 'first' is computed at run time"}


def test_identity_between_graph_input_and_output_stays() -> None:
    model = parse("""g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z)
      <float[2, 3] w = {1, 2, 3, 4, 5, 6}> { [n] y = Identity(x)  [m] z = Identity(w) }""")
    report = apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Identity", "Identity"]
    reason = "gives a graph input or stored tensor the name of an output"
    assert reasons(report) == {"n": reason, "m": reason}


def test_one_tensor_returned_under_two_names() -> None:
    model = parse("""g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
      y = Neg(x)  [n] z = Identity(y) }""")
    report = apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Neg", "Identity"]
    assert reasons(report) == {"n": "a graph returns its input too, under another name"}


def test_an_output_keeps_its_name_and_its_other_readers() -> None:
    model = parse("""g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
      t = Neg(x)  y = Identity(t)  z = Abs(y) }""")
    apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Neg", "Abs"]
    assert [output.name for output in model.graph.outputs] == ["y", "z"]


@pytest.mark.parametrize("choice", [True, False])
def test_in_branches(choice: bool) -> None:
    model = parse("""g (float[2, 3] x, bool c) => (float[2, 3] y) <float one = {1}> {
      h = Abs(x)
      y = If (c) <
        then_branch = t () => (float[2, 3] r) { [way_out] r = Identity(h) },
        else_branch = e () => (float[2, 3] s) { k = Mul(h, one)  l = Identity(k)  s = Neg(l) }>
    }""")
    report = apply_exact(RemoveNoOps(), model, {**X, "c": np.array(choice)})
    assert sorted(ops(model)) == ["Abs", "Identity", "If", "Neg"]
    assert reasons(report) == {"way_out": "is how a body returns a tensor from outside"}


def test_in_loop_bodies() -> None:
    model = parse("""g (float[2, 3] x, int64 n, bool go) => (float[2, 3] y) {
      y = Loop (n, go, x) < body = b (int64 i, bool c, float[2, 3] s)
        => (bool d, float[2, 3] t) { [pass_on] d = Identity(c)  u = Identity(s)
           v = Cast <to = 1> (u)  t = Add(v, v) }> }""")
    feeds = {"x": np.ones((2, 3), np.float32), "n": np.array(3), "go": np.array(True)}
    report = apply_exact(RemoveNoOps(), model, feeds)
    assert ops(model) == ["Loop", "Identity", "Add"]
    assert list(reasons(report)) == ["pass_on"]


def test_a_cast_of_unknown_type_in_a_body_is_told() -> None:
    model = parse("""g (float[2, 3] x, bool c) => (float[2, 3] y) {
      y = If (c) <
        then_branch = t () => (float[2, 3] r) { u = Abs(x)  [n] v = Cast <to = 1> (u)
          r = Neg(v) },
        else_branch = e () => (float[2, 3] s) { s = Neg(x) }> }""")
    report = apply_exact(RemoveNoOps(), model, {**X, "c": np.array(True)})
    assert reasons(report) == {"n": "the element type of its input is not known"}


def test_unnamed_nodes_dynamic_axes_and_overrides() -> None:
    text = """g (float[N, M] x) => (float[N, M] y) {
      t = Identity(x)  u = Identity(t)  y = Neg(u) }"""
    model = parse(text)
    pass_ = RemoveNoOps(overrides=(Override(None, nodes=("Identity_u",)),))
    report = apply_exact(pass_, model, X)
    assert ops(model) == ["Identity", "Neg"]
    assert reasons(report) == {"Identity_u": EXCLUDED}


def test_attributes_of_old_opsets() -> None:
    model = parse(
        opset(9)
        + """g (float[2, 3] x) => (float[2, 3] y) {
      t = Pad <pads = [0, 0, 0, 0]> (x)  d = Dropout <ratio = 0.5> (t)  y = Neg(d) }"""
    )
    apply_exact(RemoveNoOps(), model, X)
    assert ops(model) == ["Neg"]


def test_strings() -> None:
    model = parse("""g (string[2] x) => (string[4] y) {
      t = Cast <to = 8> (x)  u = Concat <axis = 0> (t)  y = Concat <axis = 0> (u, u) }""")
    apply(RemoveNoOps(), model)
    assert ops(model) == ["Concat"]
