import numpy as np
import pytest

from onnxcompress.ir.edit import Editor
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import FoldConstants
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import ops, parse, run

from .support import apply, apply_exact, model_of, normal, opset, reasons, stored, stored_input

X = {"x": np.array([1.5, -2.0], np.float32)}


def test_a_chain_becomes_one_stored_tensor() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 5}> {
      s = Add(a, b)  p = Mul(s, s)  n = Neg(p)  [last] y = Add(x, n) }""")
    apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Add"]
    np.testing.assert_array_equal(stored_input(model, "last", 1), np.float32([-16, -49]))
    assert len(stored(model)) == 1


def test_shape_arithmetic_of_a_flatten_folds() -> None:
    model = parse("""g (float[2] x) => (float[1, 2] y) <int64[1] a = {1}, int64[1] b = {2}> {
      s = Concat <axis = 0> (a, b)  t = Cast <to = 7> (s)  [last] y = Reshape(x, t) }""")
    apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Reshape"]
    assert stored_input(model, "last", 1).tolist() == [1, 2]
    assert stored_input(model, "last", 1).dtype == np.int64


def test_several_outputs_and_several_readers() -> None:
    model = parse("""g (float[2] x) => (float[2] y, float[2] z)
      <float[4] a = {1, 2, 3, 4}, int64[2] n = {2, 2}> {
      p, q = Split <axis = 0> (a, n)  r = Add(x, p)  y = Mul(r, p)  z = Add(x, q) }""")
    apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Add", "Mul", "Add"]


def test_constant_of_shape_folds_within_the_bound() -> None:
    model = parse("""g (float[2] x) => (float[8, 2] y) <int64[2] n = {8, 2}> {
      big = ConstantOfShape(n)  y = Add(x, big) }""")
    apply_exact(FoldConstants(max_growth=48), model, X)  # 64 bytes of zeros, 16 bytes of shape
    assert ops(model) == ["Add"]


def test_a_result_over_the_bound_stays_with_its_reason_and_its_shape_folds() -> None:
    model = parse("""g (float[2] x) => (float[8, 2] y) <int64[1] a = {8}, int64[1] b = {2}> {
      n = Concat <axis = 0> (a, b)  [large] big = ConstantOfShape(n)  y = Add(x, big) }""")
    report = apply_exact(FoldConstants(max_growth=47), model, X)
    assert ops(model) == ["ConstantOfShape", "Add"]
    assert stored_input(model, "large", 0).tolist() == [8, 2]
    assert reasons(report) == {"large": "would add 48 bytes > max_growth=47"}


def test_replaced_bytes_count_only_what_nothing_else_reads() -> None:
    text = """g (float[64, 64] x) => (float[64, 64] y, float[64, 64] z) {
      [flip] t = Transpose <perm = [1, 0]> (w)  y = Add(x, t)  z = Add(x, %s) }"""
    alone = model_of(text % "x", w=normal(64, 64))
    feeds = {"x": normal(64, 64, seed=1)}
    assert apply_exact(FoldConstants(max_growth=0), alone, feeds).modified
    assert ops(alone) == ["Add", "Add"]
    shared = model_of(text % "w", w=normal(64, 64))
    report = apply_exact(FoldConstants(max_growth=0), shared, feeds)
    assert reasons(report) == {"flip": "would add 16384 bytes > max_growth=0"}


def test_two_results_of_one_weight_are_not_both_free() -> None:
    model = model_of(
        """g (float[64, 64] x) => (float[64, 64] y, float[64, 64] z) {
          [flip] t = Transpose <perm = [1, 0]> (w)  [double] d = Add(t, t)
          y = Add(x, t)  z = Add(x, d) }""",
        w=normal(64, 64),
    )
    report = apply_exact(FoldConstants(max_growth=0), model, {"x": normal(64, 64, seed=1)})
    assert reasons(report) == {"double": "would add 16384 bytes > max_growth=0"}
    assert ops(model) == ["Add", "Add", "Add"]
    assert report.bytes_after == report.bytes_before


@pytest.mark.parametrize("choice", [True, False])
def test_inside_branches_that_use_one_name_twice(choice: bool) -> None:
    model = parse("""g (float[2] x, bool c) => (float[2] y) <float[2] a = {1, 2}> {
      o = Neg(a)
      y = If (c) <
        then_branch = t () => (float[2] r) { k = Add(a, o)  [one] r = Add(x, k) },
        else_branch = e () => (float[2] s) { k = Mul(a, o)  [two] s = Add(x, k) }> }""")
    apply_exact(FoldConstants(), model, {**X, "c": np.array(choice)})
    assert ops(model) == ["If", "Add", "Add"]
    assert stored_input(model, "one", 1).tolist() == [0, 0]
    assert stored_input(model, "two", 1).tolist() == [-1, -4]


def test_custom_domains_are_left_alone_with_a_reason() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
      [own] s = com.microsoft.FastGelu(a)  y = Add(x, s) }""")
    report = apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["FastGelu", "Add"]
    assert reasons(report) == {"own": "domain 'com.microsoft' is not the standard operator set"}


def test_the_long_spelling_of_the_standard_domain_folds() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
      s = ai.onnx.Neg(a)  y = Add(x, s) }""")
    apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Add"]


def test_dequantized_weights_stay_integers() -> None:
    model = parse("""g (float[2] x) => (float[2] y)
      <int8[2] w = {1, -2}, float s = {0.5}, int8 z = {0}> {
      [weight] d = DequantizeLinear(w, s, z)  y = Add(x, d) }""")
    report = apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["DequantizeLinear", "Add"]
    assert reasons(report) == {"weight": "keeps a stored tensor small on purpose"}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("RandomNormalLike(a)", "gives other values at each run"),
        ("Bernoulli(a)", "gives other values at each run"),
        ("Dropout(a, r, t)", "may drop at random"),
    ],
)
def test_random_values_are_never_stored(call: str, reason: str) -> None:
    model = parse(f"""g (float[2] x) => (float[2] y)
      <float[2] a = {{0.5, 0.5}}, float r = {{0.5}}, bool t = {{1}}> {{
      [dice] s = {call}  y = Add(x, s) }}""")
    report = apply(FoldConstants(), model)
    assert not report.modified
    assert reasons(report) == {"dice": reason}


def test_a_stored_result_that_a_graph_returns_stays_a_node() -> None:
    model = parse("""g (float[2] x) => (float[2] y, float[2] z) <float[2] a = {1, 2}> {
      t = Neg(a)  [returned] z = Neg(t)  y = Add(x, z) }""")
    report = apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Neg", "Add"]
    assert reasons(report) == {"returned": "a graph returns its result"}
    assert stored_input(model, "returned", 0).tolist() == [-1, -2]


def test_excluded_nodes_stay_and_cut_the_chain() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
      b = Neg(a)  [keep_me] s = Neg(b)  t = Exp(s)  y = Add(x, t) }""")
    pass_ = FoldConstants(overrides=(Override(None, nodes=("keep*",)),))
    report = apply_exact(pass_, model, X)
    assert ops(model) == ["Neg", "Exp", "Add"]
    assert reasons(report) == {"keep_me": EXCLUDED}


def test_what_onnxruntime_cannot_compute_does_not_keep_the_rest() -> None:
    model = model_of(
        """g (float[2] x) => (float[2] y, float[3] z) <float[2] a = {1, 2}> {
          s = Neg(a)  [sum] y = Add(x, s)  [wrong] u = Reshape(a, n)  z = Add(u, x) }""",
        n=np.array([3], np.int64),
    )
    edit = Editor(model)  # the manager would refuse a model that does not run
    FoldConstants().run(model, edit, RuntimeContext())
    assert [(s.node, s.reason) for s in edit.skips] == [
        ("wrong", "onnxruntime cannot compute it alone")
    ]
    assert stored_input(model, "sum", 1).tolist() == [-1, -2]


def test_sequences_are_not_stored_but_what_is_taken_from_them_is() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, int64 i = {0}> {
      [list] s = SequenceConstruct(a, a)  t = SequenceAt(s, i)  y = Add(x, t) }""")
    apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Add"]


def test_a_sequence_with_a_computed_reader_is_skipped() -> None:
    model = parse("""g (float[2] x, int64 i) => (float[2] y) <float[2] a = {1, 2}> {
      [list] s = SequenceConstruct(a, a)  t = SequenceAt(s, i)  y = Add(x, t) }""")
    report = apply_exact(FoldConstants(), model, {**X, "i": np.array(1)})
    assert ops(model) == ["SequenceConstruct", "SequenceAt", "Add"]
    assert reasons(report) == {"list": "its result is no tensor"}


def test_optional_inputs_left_out() -> None:
    model = parse("""g (float[2] x) => (float[2] y) <float[2] a = {1, 9}, float h = {3}> {
      s = Clip(a, , h)  y = Add(x, s) }""")
    apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Add"]
    assert run(model, **X).tolist() == [2.5, 1.0]


def test_old_opsets() -> None:
    model = parse(
        opset(9)
        + """g (float[2] x) => (float[2] y) <float[4] a = {1, 2, 3, 4}> {
      s = Slice <starts = [1], ends = [3]> (a)  y = Add(x, s) }"""
    )
    apply_exact(FoldConstants(), model, X)
    assert ops(model) == ["Add"]


def test_the_limit_holds_for_all_that_is_folded_together() -> None:
    text = """g (float[N, 1000] x) => (float[N, 1000] y) {
      n = Constant <value = int64[1] {1000}> ()
      a = ConstantOfShape <value = float[1] {2}> (n)
      b = ConstantOfShape <value = float[1] {3}> (n)
      c = ConstantOfShape <value = float[1] {4}> (n)
      h = Mul(x, a)  i = Mul(h, b)  y = Mul(i, c) }"""
    model = parse(text)
    (report,) = PassManager([FoldConstants(max_growth=9000)]).run(model)
    assert ops(model).count("ConstantOfShape") == 1
    (reason,) = reasons(report).values()
    assert reason == "would add 3992 bytes to 8000 > max_growth=9000"


def test_weights_of_training_with_quantization_become_integers() -> None:
    """A float weight, QuantizeLinear, DequantizeLinear: 4 bytes a weight where 1 is used."""
    weight = normal(6, 3, 3, 3)
    scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    model = model_of(
        opset(13) + """g (float[N, 3, 8, 8] x) => (float[N, 6, 6, 6] y) {
          q = QuantizeLinear <axis = 0> (w, s, z)  d = DequantizeLinear <axis = 0> (q, s, z)
          p = QuantizeLinear(x, t, u)  e = DequantizeLinear(p, t, u)  y = Conv(e, d) }""",
        w=weight, s=scale, z=np.zeros(6, np.int8),
        t=np.array(0.03, np.float32), u=np.array(128, np.uint8),
    )  # fmt: skip
    apply_exact(FoldConstants(), model, {"x": normal(2, 3, 8, 8, seed=1)})
    assert sorted(ops(model)) == ["Conv", *["DequantizeLinear"] * 2, "QuantizeLinear"]
    (integers,) = [each for each in stored(model).values() if each.shape == weight.shape]
    assert integers.dtype == np.int8
    levels = np.round(weight / scale.reshape(-1, 1, 1, 1))
    np.testing.assert_array_equal(integers, levels)
    assert model.weight_bytes < weight.nbytes / 3
