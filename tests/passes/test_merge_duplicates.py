import ml_dtypes
import numpy as np
import pytest

from onnxcompress.ir import elements, io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.from_proto import import_model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import MergeDuplicates
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import exported, ops, parse, proto

from .support import Array, apply, apply_exact, model_of, normal, opset, reasons, stored

X = {"x": normal(3, 4)}


@pytest.mark.parametrize(
    "values",
    [
        normal(3, 4),
        np.array(2.5, np.float32),
        np.array([np.nan, -0.0, np.inf, 1e-40], np.float32),
    ],
)
def test_equal_stored_tensors_become_one(values: Array) -> None:
    model = model_of(
        "g (float[N, 4] x) => (float[a, b] y, float[a, b] z) { y = Add(x, a)  z = Sub(x, b) }",
        a=values,
        b=values.copy(),
    )
    feeds = {"x": normal(values.shape[0] if values.ndim == 2 else 3, 4)}
    report = apply_exact(MergeDuplicates(), model, feeds)
    assert list(stored(model)) == ["a"]
    assert report.bytes_after == report.bytes_before / 2
    assert len(exported(model).graph.initializer) == 1


def test_tensors_without_elements_stay() -> None:
    empty = np.zeros((0, 4), np.float32)
    model = model_of(
        "g (float[N, 4] x) => (float[a, b] y, float[a, b] z) { y = Add(x, a)  z = Sub(x, b) }",
        a=empty,
        b=empty.copy(),
    )
    apply_exact(MergeDuplicates(), model, {"x": normal(0, 4)})
    assert list(stored(model)) == ["a", "b"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.float32([0.0, 1.0]), np.float32([-0.0, 1.0])),
        (np.float32([1, 2]), np.float32([2, 1])),
        (np.float32([[1, 2]]), np.float32([1, 2])),
        (
            np.array([0x7FC00000, 0x3F800000], np.uint32).view(np.float32),
            np.array([0x7FC00001, 0x3F800000], np.uint32).view(np.float32),
        ),
    ],
)
def test_stored_tensors_that_only_look_alike_stay(a: Array, b: Array) -> None:
    model = model_of(
        "g (float[3, 2] x) => (float[3, 2] y, float[3, 2] z) { y = Add(x, a)  z = Add(x, b) }",
        a=a,
        b=b,
    )
    assert not apply_exact(MergeDuplicates(), model, {"x": normal(3, 2)}).modified


def test_element_types_of_equal_bytes_stay_apart() -> None:
    model = model_of(
        """g (int64[2] i) => (int8[2] y, uint8[2] z, bool[2] u, int64[2] v, float[2] w) {
          y = Gather(a, i)  z = Gather(b, i)  u = Gather(c, i)  v = Gather(d, i)
          w = Gather(e, i) }""",
        a=np.int8([1, 0]),
        b=np.uint8([1, 0]),
        c=np.array([True, False]),
        d=np.array([0, 0]),
        e=np.float32([0, 0]),
    )
    assert not apply_exact(MergeDuplicates(), model, {"i": np.array([0, 1])}).modified


@pytest.mark.parametrize("kind", ["int8", "uint8", "bool", "int64", "float16", "float64", "string"])
def test_every_element_type(kind: str) -> None:
    values = np.array(["a", "b"], object) if kind == "string" else np.array([1, 0]).astype(kind)
    other = np.array(["a", "c"], object) if kind == "string" else np.array([0, 1]).astype(kind)
    name = {"float64": "double"}.get(kind, kind)
    model = model_of(
        f"""g (int64[1] i, int64[1] j) => ({name}[1] y, {name}[1] z, {name}[1] u) {{
          y = Gather(a, i)  z = Gather(b, j)  u = Gather(c, i) }}""",
        a=values,
        b=values.copy(),
        c=other,
    )
    apply_exact(MergeDuplicates(), model, {"i": np.array([0]), "j": np.array([1])})
    assert list(stored(model)) == ["a", "c"]


def test_int4() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]> g () => (int8[2] y, int8[2] z) {
      y = Cast <to = 3> (a)  k = Cast <to = 3> (b)  l = Cast <to = 3> (c)  z = Add(k, l) }"""
    message = proto(text)
    kinds = {"a": ml_dtypes.int4, "b": ml_dtypes.int4, "c": ml_dtypes.uint4}
    for name, kind in kinds.items():
        codes = np.array([1, -2 if kind is ml_dtypes.int4 else 14], kind)
        message.graph.initializer.append(elements.from_array(codes, name))
    model = import_model(message)
    apply(MergeDuplicates(), model)
    assert sorted(stored(model)) == ["a", "c"]


def test_a_returned_tensor_is_the_one_that_stays() -> None:
    model = model_of(
        "g (float[2] x) => (float[2] y, float[2] b, float[2] c) { y = Add(x, a) }",
        a=np.float32([1, 2]),
        b=np.float32([1, 2]),
        c=np.float32([1, 2]),
    )
    apply_exact(MergeDuplicates(), model, {"x": normal(2)})
    assert sorted(stored(model)) == ["b", "c"]


def test_the_same_computation_runs_once() -> None:
    model = parse("""g (float[3, 4] x) => (float[3, 4] y) {
      a = Exp(x)  b = Exp(x)  c = Neg(a)  d = Neg(b)  y = Add(c, d) }""")
    apply_exact(MergeDuplicates(), model, X)
    assert ops(model) == ["Exp", "Neg", "Add"]


def test_several_outputs_merge_together() -> None:
    model = parse("""g (float[3, 4] x) => (float[3, 2] y) <int64[2] s = {2, 2}> {
      a, b = Split <axis = 1> (x, s)  c, d = Split <axis = 1> (x, s)  y = Sub(a, d) }""")
    apply_exact(MergeDuplicates(), model, X)
    assert ops(model) == ["Split", "Sub"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Softmax <axis = 0> (x)", "Softmax <axis = 1> (x)"),
        ("Sub(x, w)", "Sub(w, x)"),
        ("Exp(x)", "Neg(x)"),
        ("Clip(x, l)", "Clip(x, , l)"),
    ],
)
def test_different_computations_stay(first: str, second: str) -> None:
    model = parse(f"""g (float[3, 4] x) => (float[3, 4] y) <float l = {{0.5}}, float w = {{2}}> {{
      a = {first}  b = {second}  y = Add(a, b) }}""")
    assert not apply_exact(MergeDuplicates(), model, X).modified


def test_present_outputs_count() -> None:
    model = parse("""g (float[1, 1, 4] x) => (float[a, b, c] y, int64[a, b, c] i) {
      p = MaxPool <kernel_shape = [2]> (x)  q, i = MaxPool <kernel_shape = [2]> (x)
      y = Add(p, q) }""")
    assert not apply_exact(MergeDuplicates(), model, {"x": normal(1, 1, 4)}).modified


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_nodes_stay_two(op: str) -> None:
    model = parse(f"""g (float[3, 4] x) => (float[3, 4] y) {{
      u = Sigmoid(x)  [one] a = {op}(u)  [two] b = {op}(u)  y = Sub(a, b) }}""")
    report = apply(MergeDuplicates(), model)
    assert not report.modified
    assert reasons(report) == {"two": "equals one, but gives other values at each call"}


def test_dropout_in_training_stays_two() -> None:
    model = parse("""g (float[3, 4] x) => (float[3, 4] y) <float r = {0.5}, bool t = {1}> {
      [one] a = Dropout(x, r, t)  [two] b = Dropout(x, r, t)  y = Sub(a, b) }""")
    edit = Editor(model)  # the manager would compare outputs that differ from run to run
    MergeDuplicates().run(model, edit, RuntimeContext())
    assert not edit.changes
    assert [s.reason for s in edit.skips] == ["equals one, but gives other values at each call"]


def test_custom_domains_may_have_state() -> None:
    model = parse("""g (float[3, 4] x) => (float[3, 4] y) {
      [one] a = com.microsoft.FastGelu(x)  [two] b = com.microsoft.FastGelu(x)
      y = Add(a, b) }""")
    report = apply_exact(MergeDuplicates(), model, X)
    assert reasons(report) == {"two": "equals one, but domain 'com.microsoft' may have state"}


def test_one_returned_result_serves_the_other() -> None:
    model = parse("""g (float[3, 4] x) => (float[3, 4] y, float[3, 4] z) {
      a = Exp(x)  y = Exp(x)  z = Neg(a) }""")
    apply_exact(MergeDuplicates(), model, X)
    assert ops(model) == ["Exp", "Neg"]
    assert [output.name for output in model.graph.outputs] == ["y", "z"]


def test_two_returned_results_stay_two() -> None:
    model = parse("""g (float[3, 4] x) => (float[3, 4] y, float[3, 4] z) {
      [one] y = Exp(x)  [two] z = Exp(x) }""")
    report = apply_exact(MergeDuplicates(), model, X)
    assert reasons(report) == {"two": "equals one, but a graph returns both"}


BRANCHES = """g (float[3, 4] x, bool c) => (float[3, 4] y) <float[4] w = {1, 2, 3, 4}> {
  y = If (c) <
    then_branch = t () => (float[3, 4] r) <float[4] v = {1, 2, 3, 4}> {
      k = Exp(x)  l = Exp(x)  m = Add(k, l)  r = Add(m, v) },
    else_branch = e () => (float[3, 4] s) <float[4] u = {1, 2, 3, 4}> {
      k = Exp(x)  o = Add(k, u)  s = Add(o, w) }> }"""


@pytest.mark.parametrize("choice", [True, False])
def test_branches_share_weights_but_no_computation(choice: bool) -> None:
    model = parse(BRANCHES)
    apply_exact(MergeDuplicates(), model, {**X, "c": np.array(choice)})
    assert ops(model) == ["If", "Exp", "Add", "Add", "Exp", "Add", "Add"]
    assert list(stored(model)) == [next(iter(stored(model)))]
    reread = import_model(exported(model))
    assert io.to_bytes(reread) == io.to_bytes(model)


def test_equal_ifs_are_not_compared() -> None:
    branch = """If (c) <then_branch = t () => (float[3, 4] r%d) { r%d = Exp(x) },
      else_branch = e () => (float[3, 4] s%d) { s%d = Neg(x) }>"""
    model = parse(f"""g (float[3, 4] x, bool c) => (float[3, 4] y) {{
      a = {branch % (1, 1, 1, 1)}  b = {branch % (2, 2, 2, 2)}  y = Add(a, b) }}""")
    report = apply_exact(MergeDuplicates(), model, {**X, "c": np.array(True)})
    assert not report.modified


def test_overrides_and_unnamed_nodes() -> None:
    model = parse("""g (float[3, 4] x) => (float[3, 4] y, float[3, 4] z)
      <float[4] a = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4}> {
      p = Exp(x)  q = Exp(x)  y = Add(p, a)  [fixed] z = Add(q, b) }""")
    pass_ = MergeDuplicates(overrides=(Override(None, nodes=("fixed", "Exp_q")),))
    report = apply_exact(pass_, model, X)
    assert not report.modified
    assert reasons(report) == {"fixed": EXCLUDED, "Exp_q": EXCLUDED}


def test_old_opsets() -> None:
    model = parse(
        opset(7)
        + """g (float[3, 4] x) => (float[3, 4] y) {
      a = Softmax(x)  b = Softmax(x)  y = Add(a, b) }"""
    )
    apply_exact(MergeDuplicates(), model, X)
    assert ops(model) == ["Softmax", "Add"]
