import numpy as np
import pytest

from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import MergeMatMuls
from tests.helpers import assert_same_outputs, node, ops, outputs

from .support import Array, apply, apply_exact, model_of, normal, opset, reasons

X = {"x": normal(2, 5, 8)}
TOLERANCE = 1e-6
WEIGHTS = {
    "q": normal(8, 6, seed=1),
    "k": normal(8, 6, seed=2),
    "v": normal(8, 3, seed=3),
    "qb": normal(6, seed=4),
    "kb": normal(6, seed=5),
    "vb": normal(3, seed=6),
}

BIASED = """g (float[N, S, 8] x) => (float[N, S, 6] a, float[N, S, 6] b, float[N, S, 3] c) {
  [mq] h = MatMul(x, q)  i = Add(h, qb)  a = Relu(i)
  [mk] j = MatMul(x, k)  l = Add(kb, j)  b = Relu(l)
  [mv] m = MatMul(x, v)  n = Add(m, vb)  c = Relu(n) }"""
PLAIN = """g (float[N, S, 8] x) => (float[N, S, 6] a, float[N, S, 6] b, float[N, S, 3] c) {
  [mq] h = MatMul(x, q)  a = Relu(h)  [mk] j = MatMul(x, k)  b = Relu(j)
  [mv] m = MatMul(x, v)  c = Relu(m) }"""


def _used(text: str) -> dict[str, Array]:
    return {
        name: array for name, array in WEIGHTS.items() if f" {name})" in text or f"({name}," in text
    }


@pytest.mark.parametrize("header", ["", opset(11), opset(13), opset(18)])
@pytest.mark.parametrize("text", [BIASED, PLAIN])
def test_query_key_and_value_become_one_product(text: str, header: str) -> None:
    model = model_of(header + text, **_used(text))
    apply_exact(MergeMatMuls(), model, X, tolerance=TOLERANCE)
    biased = ["Add"] if text is BIASED else []
    assert ops(model) == ["MatMul", *biased, "Split", "Relu", "Relu", "Relu"]


def test_the_attribute_form_of_split() -> None:
    model = model_of(opset(11) + PLAIN, **_used(PLAIN))
    apply(MergeMatMuls(), model)
    split = next(one for _, one in model.nodes() if one.op == "Split")
    assert split.ints_attr("split") == (6, 6, 3)
    assert len(split.inputs) == 1


def test_opset_nine() -> None:
    model = model_of(opset(9) + PLAIN, **_used(PLAIN))
    apply_exact(MergeMatMuls(), model, X, tolerance=TOLERANCE)
    assert "Split" in ops(model)


def test_outputs_of_the_graph_keep_their_names() -> None:
    text = """g (float[N, S, 8] x) => (float[N, S, 6] a, float[N, S, 3] c) {
      a = MatMul(x, q)  c = MatMul(x, v) }"""
    model = model_of(text, **_used(text))
    apply_exact(MergeMatMuls(), model, X, tolerance=TOLERANCE)
    assert ops(model) == ["MatMul", "Split"]
    assert [output.name for output in model.graph.outputs] == ["a", "c"]


def test_an_output_before_its_bias_counts_as_unbiased() -> None:
    text = BIASED.replace("float[N, S, 3] c)", "float[N, S, 3] c, float[N, S, 6] h)")
    model = model_of(text, **_used(BIASED))
    report = apply_exact(MergeMatMuls(), model, X)
    reason = "some products of its input have a bias, some not"
    assert reasons(report) == dict.fromkeys(("mq", "mk", "mv"), reason)


@pytest.mark.parametrize(
    "tail", ["i = Relu(h)", "i = Add(h, s)", "i = Add(h, w33)", "i = Add(h, h)", "i = Add(h, j)"]
)
def test_some_biased_and_some_not(tail: str) -> None:
    text = BIASED.replace("i = Add(h, qb)", tail)
    more = {"s": np.float32(2), "w33": normal(5, 1)}
    model = model_of(text, **_used(BIASED), **more)
    report = apply_exact(MergeMatMuls(), model, X)
    assert not report.modified
    assert set(reasons(report)) == {"mq", "mk", "mv"}


def test_excluded_products_stay_out() -> None:
    model = model_of(PLAIN, **_used(PLAIN))
    pass_ = MergeMatMuls(overrides=(Override(None, nodes=("mk",)),))
    report = apply_exact(pass_, model, X, tolerance=TOLERANCE)
    assert sorted(ops(model)) == ["MatMul", "MatMul", "Relu", "Relu", "Relu", "Split"]
    assert node(model, "mk").op == "MatMul"
    assert reasons(report) == {"mk": EXCLUDED}


def test_when_only_one_is_left_it_says_so() -> None:
    text = """g (float[N, S, 8] x) => (float[N, S, 6] a, float[N, S, 6] b) {
      [mq] a = MatMul(x, q)  [mk] b = MatMul(x, k) }"""
    model = model_of(text, **_used(text))
    pass_ = MergeMatMuls(overrides=(Override(None, nodes=("mk",)),))
    report = apply_exact(pass_, model, X)
    assert reasons(report) == {
        "mk": EXCLUDED,
        "mq": "no other product of its input can merge with it",
    }


def test_a_stack_of_matrices_stays_out() -> None:
    text = """g (float[2, S, 8] x) => (float[2, S, 6] a, float[2, S, 6] b, float[2, S, 4] c) {
      a = MatMul(x, q)  b = MatMul(x, k)  [stack] c = MatMul(x, w) }"""
    model = model_of(text, **_used(text), w=normal(2, 8, 4))
    report = apply_exact(MergeMatMuls(), model, X, tolerance=TOLERANCE)
    assert reasons(report) == {"stack": "its weight is float32 [2, 8, 4]"}
    assert ops(model).count("MatMul") == 2


def test_a_weight_with_other_readers_is_not_stored_twice() -> None:
    text = """g (float[N, S, 8] x, float[8] u) => (float[N, S, 6] a, float[N, S, 6] b, float[6] c) {
      [mq] a = MatMul(x, q)  [mk] b = MatMul(x, k)  c = MatMul(u, q) }"""
    model = model_of(text, **_used(text))
    report = apply_exact(MergeMatMuls(), model, {**X, "u": normal(8)})
    assert not report.modified
    assert reasons(report) == {
        "mq": "its weight has other readers and would be stored twice",
        "mk": "no other product of its input can merge with it",
    }


def test_products_of_two_activations_and_lone_products_are_no_candidates() -> None:
    text = """g (float[N, 5, 8] x, float[8, 4] u) => (float[N, 5, 4] a, float[N, 5, 6] b) {
      a = MatMul(x, u)  b = MatMul(x, q) }"""
    model = model_of(text, **_used(text))
    report = apply_exact(MergeMatMuls(), model, {**X, "u": normal(8, 4)})
    assert not report.modified
    assert report.skips == ()


def test_vectors() -> None:
    text = """g (float[8] x) => (float[6] a, float[6] b) {
      h = MatMul(x, q)  a = Add(h, qb)  j = MatMul(x, k)  b = Add(j, kb) }"""
    model = model_of(text, **_used(text))
    apply_exact(MergeMatMuls(), model, {"x": normal(8)}, tolerance=TOLERANCE)
    assert ops(model) == ["MatMul", "Add", "Split"]


def test_float16() -> None:
    text = """g (float16[N, S, 8] x) => (float16[N, S, 6] a, float16[N, S, 6] b) {
      a = MatMul(x, q)  b = MatMul(x, k) }"""
    model = model_of(text, **{k: w.astype(np.float16) for k, w in _used(text).items()})
    feeds = {"x": X["x"].astype(np.float16)}
    before = outputs(model, feeds)
    apply(MergeMatMuls(), model)
    assert ops(model) == ["MatMul", "Split"]
    assert_same_outputs(before, outputs(model, feeds), 0.01)


@pytest.mark.parametrize("choice", [True, False])
def test_branches_merge_within_themselves(choice: bool) -> None:
    model = model_of(
        """g (float[N, S, 8] x, bool c) => (float[N, S, 6] y) {
          y = If (c) <
            then_branch = t () => (float[N, S, 6] r) {
              a = MatMul(x, q)  b = MatMul(x, k)  r = Add(a, b) },
            else_branch = e () => (float[N, S, 6] s) { s = MatMul(x, w) }> }""",
        q=WEIGHTS["q"],
        k=WEIGHTS["k"],
        w=normal(8, 6),
    )
    apply_exact(MergeMatMuls(), model, {**X, "c": np.array(choice)}, tolerance=TOLERANCE)
    assert sorted(ops(model)) == ["Add", "If", "MatMul", "MatMul", "Split"]


@pytest.mark.parametrize("bias", ["", "  cb = Add(c, kb)"])
@pytest.mark.parametrize("first", ["q", "k"])
def test_products_of_a_product_that_was_merged_merge_too(first: str, bias: str) -> None:
    """A low-rank latent: what the second group reads is what the first one makes anew."""
    latent = "cb" if bias else "c"
    both = [f"[mk] c = MatMul(x, k){bias}", "[mq] p = MatMul(x, q)"]
    both = both if first == "k" else both[::-1]
    plain = "" if not bias else "  p2 = Add(p, qb)"
    text = f"""g (float[N, S, 8] x) => (float[N, S, 6] a, float[N, S, 2] y) {{
      {"  ".join(both)}{plain}  [mu] u = MatMul({latent}, up)  [mv] w = MatMul({latent}, down)
      y = Mul(u, w)  a = Identity({"p2" if bias else "p"}) }}"""
    weights = {name: WEIGHTS[name] for name in ("q", "k", *(("qb", "kb") if bias else ()))}
    model = model_of(text, **weights, up=normal(6, 2, seed=7), down=normal(6, 2, seed=8))
    apply_exact(MergeMatMuls(), model, X, tolerance=TOLERANCE)
    assert ops(model).count("MatMul") == ops(model).count("Split") == 2
