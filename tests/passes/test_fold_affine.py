import numpy as np
import pytest

from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import FoldAffine
from tests.helpers import ops

from .support import (
    Array,
    apply,
    apply_exact,
    model_of,
    normal,
    reasons,
    stored,
    stored_input,
)

TOLERANCE = 1e-5
IMAGE = {"x": normal(2, 6, 5, 4)}
ROWS = {"x": normal(5, 6)}

LINEAR = {
    "conv": ("Conv(x, w, b)", (4, 6, 3, 3), IMAGE),
    "conv without bias": ("Conv(x, w)", (4, 6, 3, 3), IMAGE),
    "depthwise": ("Conv <group = 2> (x, w, b)", (4, 3, 1, 1), IMAGE),
    "transposed": ("ConvTranspose(x, w, b)", (6, 4, 2, 2), IMAGE),
    "transposed in groups": ("ConvTranspose <group = 2> (x, w, b)", (6, 2, 2, 2), IMAGE),
    "gemm": ("Gemm(x, w, b)", (6, 4), ROWS),
    "gemm transposed": ("Gemm <transB = 1, alpha = 2.0> (x, w, b)", (4, 6), ROWS),
    "matmul": ("MatMul(x, w)", (6, 4), ROWS),
}


def _scene(kind: str, tail: str, value: Array) -> tuple[Model, dict[str, Array]]:
    call, shape, feeds = LINEAR[kind]
    dims = "[N, 6, H, K]" if feeds is IMAGE else "[N, 6]"
    out = "[N, c, a, d]" if feeds is IMAGE else "[N, c]"
    text = f"g (float{dims} x) => (float{out} y) {{ [linear] h = {call}  [affine] y = {tail} }}"
    model = model_of(text, w=normal(*shape), b=normal(4, seed=2), v=value.astype(np.float32))
    return model, feeds


def _channels(kind: str, *, batch: bool) -> Array:
    spatial = (1, 1) if LINEAR[kind][2] is IMAGE else ()
    return normal(4, seed=5).reshape(*((1,) if batch else ()), 4, *spatial)


PAIRS = [
    (kind, tail)
    for kind in LINEAR
    for tail in ("Mul(h, v)", "Mul(v, h)", "Div(h, v)", "Add(h, v)", "Sub(h, v)")
    if kind != "matmul" or not tail.startswith(("Add", "Sub"))  # an Add to a MatMul is its bias
]


@pytest.mark.parametrize(("kind", "tail"), PAIRS)
@pytest.mark.parametrize("form", ["scalar", "one", "channels", "batch of channels"])
def test_every_linear_node_takes_every_factor(kind: str, tail: str, form: str) -> None:
    value = {"scalar": np.array(-0.3), "one": np.array([2.5])}.get(form)
    if value is None:
        value = _channels(kind, batch=form.startswith("batch"))
    model, feeds = _scene(kind, tail, value)
    apply_exact(FoldAffine(), model, feeds, tolerance=TOLERANCE)
    assert len(ops(model)) == 1


def test_one_value_with_the_tensors_own_rank() -> None:
    model, feeds = _scene("conv", "Mul(h, v)", np.full((1, 1, 1, 1), 3.0))
    apply_exact(FoldAffine(), model, feeds, tolerance=TOLERANCE)
    assert ops(model) == ["Conv"]


def test_a_matmul_with_bias_takes_factors_and_a_second_bias() -> None:
    model = model_of(
        """g (float[N, S, 6] x) => (float[N, S, 4] y) {
          h = MatMul(x, w)  i = Add(b, h)  j = Mul(i, v)  k = Add(j, b)  [last] y = Div(k, v) }""",
        w=normal(6, 4),
        b=normal(4, seed=1),
        v=normal(4, seed=2),
    )
    apply_exact(FoldAffine(), model, {"x": normal(2, 3, 6)}, tolerance=TOLERANCE)
    assert ops(model) == ["MatMul", "Add"]


def test_a_bias_of_higher_rank_keeps_the_ranks_of_the_result() -> None:
    model = model_of(
        """g (float[N, 6] x) => (float[a, N, c] y) {
          h = MatMul(x, w)  i = Add(h, b)  y = Mul(i, v) }""",
        w=normal(6, 4),
        b=normal(1, 1, 1),
        v=normal(4),
    )
    apply_exact(FoldAffine(), model, ROWS, tolerance=TOLERANCE)
    assert ops(model) == ["MatMul", "Add"]


def test_the_values_are_those_of_float64() -> None:
    w, v = normal(4, 6, 3, 3), normal(4, 1, 1, seed=5)
    model = model_of(
        """g (float[N, 6, H, K] x) => (float[N, 4, a, b] y) {
          [linear] h = Conv(x, w)  y = Div(h, v) }""",
        w=w,
        v=v,
    )
    apply(FoldAffine(), model)
    expected = (w.astype(np.float64) * (1 / v.astype(np.float64))[:, None]).astype(np.float32)
    np.testing.assert_array_equal(stored_input(model, "linear", 1), expected)


ATTENTION = """g (float[N, S, 8] x) => (float[N, 2, S, S] y)
  <int64[4] heads = {0, 0, 2, 4}, float d = {0.5}, float[1] d_1 = {0.5},
   float[1, 1, 1, 1] d_4 = {0.5}> {
  q = MatMul(x, wq)  qb = Add(q, bq)  qr = Reshape(qb, heads)
  qt = Transpose <perm = [0, 2, 1, 3]> (qr)
  k = MatMul(x, wk)  kr = Reshape(k, heads)  kt = Transpose <perm = [0, 2, 3, 1]> (kr)
  s = MatMul(qt, kt)  [scale] t = %s  y = Softmax(t) }"""


@pytest.mark.parametrize(
    "call", ["Mul(s, d)", "Mul(d, s)", "Div(s, d)", "Mul(s, d_1)", "Mul(s, d_4)"]
)
def test_the_factor_of_attention_ends_in_the_query(call: str) -> None:
    wq, wk = normal(8, 8), normal(8, 8, seed=1)
    model = model_of(ATTENTION % call, wq=wq, wk=wk, bq=normal(8, seed=2))
    apply_exact(FoldAffine(), model, {"x": normal(2, 3, 8)}, tolerance=TOLERANCE)
    assert "Mul" not in ops(model) and "Div" not in ops(model)
    factor = 2 if call.startswith("Div") else 0.5
    np.testing.assert_array_equal(stored_input(model, "MatMul_q", 1), wq * np.float32(factor))
    np.testing.assert_array_equal(stored_input(model, "MatMul_k", 1), wk)


def test_a_query_that_cannot_take_it_leaves_it_to_the_key() -> None:
    text = (ATTENTION % "Mul(s, d)").replace("qr = Reshape(qb", "qs = Sigmoid(qb)  qr = Reshape(qs")
    model = model_of(text, wq=normal(8, 8), wk=normal(8, 8, seed=1), bq=normal(8, seed=2))
    apply_exact(FoldAffine(), model, {"x": normal(2, 3, 8)}, tolerance=TOLERANCE)
    assert "Mul" not in ops(model)


def test_an_intermediate_with_other_readers_stops_the_factor() -> None:
    text = (ATTENTION % "Mul(s, d)").replace("S, S] y)", "S, S] y, float[N, 2, S, 4] z)")
    text = text.replace("y = Softmax(t)", "y = Softmax(t)  u = Neg(kr)  z = Neg(qt)")
    model = model_of(text, wq=normal(8, 8), wk=normal(8, 8, seed=1), bq=normal(8, seed=2))
    report = apply_exact(FoldAffine(), model, {"x": normal(2, 3, 8)})
    assert reasons(report) == {"scale": "'kr' has other readers"}


@pytest.mark.parametrize("shape", [(4,), (2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 3, 3)])
def test_only_a_scalar_travels(shape: tuple[int, ...]) -> None:
    text = (ATTENTION % "Mul(s, v)").replace("S, S] y)", "e, f] y)")
    text = text.replace("[0, 2, 3, 1]> (kr)", "[0, 2, 3, 1]> (kr)")
    weights = {"wq": normal(8, 8), "wk": normal(8, 8, seed=1), "bq": normal(8, seed=2)}
    model = model_of(text, **weights, v=normal(*shape))
    size = 4 if shape == (4,) else 3
    report = apply_exact(FoldAffine(), model, {"x": normal(2, size, 8)})
    assert not report.modified
    assert list(reasons(report)) == ["scale"]


@pytest.mark.parametrize(
    ("kind", "shape", "reason"),
    [
        ("conv", (4,), "its operand [4] is not one value a channel"),
        ("conv", (1, 4, 1), "its operand [1, 4, 1] is not one value a channel"),
        ("conv", (2, 1, 1, 1), "its operand [2, 1, 1, 1] is not one value a channel"),
        ("conv", (1, 1, 1, 1, 1), "its operand [1, 1, 1, 1, 1] may add an axis"),
        ("matmul", (1, 1, 4), "its operand [1, 1, 4] is not one value a channel"),
        ("matmul", (1, 1, 1), "its operand [1, 1, 1] may add an axis"),
        ("gemm", (5, 1), "its operand [5, 1] is not one value a channel"),
        ("gemm", (5, 4), "its operand [5, 4] is not one value a channel"),
    ],
)
def test_operands_that_are_no_channels(kind: str, shape: tuple[int, ...], reason: str) -> None:
    call, weight, feeds = LINEAR[kind]
    feeds = {"x": normal(2, 6, 6, 6)} if feeds is IMAGE else feeds
    dims = "float[N, 6, 6, 6]" if "6, 6, 6" in str(feeds["x"].shape) else "float[N, 6]"
    text = f"g ({dims} x) => (float y) {{ [linear] h = {call}  [affine] i = Mul(h, v)"
    text += "  y = ReduceSum <keepdims = 0> (i) }"
    model = model_of(text, w=normal(*weight), b=normal(4), v=normal(*shape))
    report = apply_exact(FoldAffine(), model, feeds)
    assert not report.modified
    assert reasons(report) == {"affine": reason}


def test_one_channel_that_broadcasting_widens() -> None:
    model = model_of(
        """g (float[N, 6, H, K] x) => (float[N, 3, a, b] y) {
          h = Conv(x, w)  [affine] y = Mul(h, v) }""",
        w=normal(1, 6, 1, 1),
        v=normal(3, 1, 1),
    )
    report = apply_exact(FoldAffine(), model, IMAGE)
    assert reasons(report) == {"affine": "its operand [3, 1, 1] is not one value a channel"}


def test_a_scalar_of_one_axis_may_widen_a_tensor_of_none() -> None:
    model = model_of(
        """g (float[1, 6] x) => (float[1] y) <int64[0] none = {}> {
          h = MatMul(x, w)  t = Reshape(h, none)  [affine] y = Mul(t, v) }""",
        w=normal(6, 1),
        v=normal(1),
    )
    report = apply_exact(FoldAffine(), model, {"x": normal(1, 6)})
    assert reasons(report) == {"affine": "its operand [1] may add an axis"}


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ("[affine] y = Div(h, zero)", "its operand is not finite, or divides by zero"),
        ("[affine] y = Mul(h, much)", "the folded weight of 'linear' would leave the range of"),
        ("[affine] y = Mul(h, inf)", "its operand is not finite, or divides by zero"),
        ("k = Relu(h)  [affine] y = Mul(k, v)", "reads Relu, which is not linear"),
        ("[affine] k = Mul(h, v)  y = Add(k, h)", "'h' has other readers"),
    ],
)  # fmt: skip
def test_what_cannot_be_folded(tail: str, reason: str) -> None:
    model = model_of(
        f"""g (float[N, 6] x) => (float[N, 4] y) <float zero = {{0}}, float v = {{2}}> {{
          [linear] h = Gemm(x, w)  {tail} }}""",
        w=normal(6, 4),
        much=np.array(3e38, np.float32),
        inf=np.array(np.inf, np.float32),
    )
    report = apply(FoldAffine(), model)
    assert not report.modified
    assert list(reasons(report)) == ["affine"]
    assert reasons(report)["affine"].startswith(reason)


def test_operands_of_division_and_subtraction_have_sides() -> None:
    model = model_of(
        """g (float[N, 6] x) => (float[N, 4] y) <float v = {2}> {
          h = Gemm(x, w)  i = Div(v, h)  y = Sub(v, i) }""",
        w=normal(6, 4),
    )
    assert not apply_exact(FoldAffine(), model, ROWS).modified


def test_integers_are_told() -> None:
    model = model_of("g (int64[2] x) => (int64[2] y) <int64 v = {3}> { [affine] y = Mul(x, v) }")
    report = apply_exact(FoldAffine(), model, {"x": np.array([1, 2])})
    assert reasons(report) == {"affine": "its operand is int64"}


def test_other_readers_of_the_weight_keep_their_values() -> None:
    w = normal(6, 4)
    model = model_of(
        """g (float[N, 6] x) => (float[N, 4] y, float[N, 4] z) <float v = {3}> {
          h = Gemm(x, w)  y = Mul(h, v)  [other] z = Gemm(x, w) }""",
        w=w,
    )
    apply_exact(FoldAffine(), model, ROWS, tolerance=TOLERANCE)
    assert ops(model) == ["Gemm", "Gemm"]
    np.testing.assert_array_equal(stored_input(model, "other", 1), w)


def test_float16() -> None:
    model = model_of(
        "g (float16[N, 6] x) => (float16[N, 4] y) { h = Gemm(x, w)  y = Mul(h, v) }",
        w=normal(6, 4, dtype=np.float16),
        v=np.array(0.5, np.float16),
    )
    apply_exact(FoldAffine(), model, {"x": normal(5, 6, dtype=np.float16)})  # a power of two
    assert ops(model) == ["Gemm"]


@pytest.mark.parametrize("choice", [True, False])
def test_in_branches(choice: bool) -> None:
    model = model_of(
        """g (float[N, 6] x, bool c) => (float[N, 4] y) <float v = {3}> {
          h = Gemm(x, w)
          y = If (c) <
            then_branch = t () => (float[N, 4] r) { r = Mul(h, v) },
            else_branch = e () => (float[N, 4] s) { k = Gemm(x, w)  s = Div(k, v) }> }""",
        w=normal(6, 4),
    )
    apply_exact(FoldAffine(), model, {**ROWS, "c": np.array(choice)}, tolerance=TOLERANCE)
    assert "Mul" not in ops(model) and "Div" not in ops(model)


def test_excluded() -> None:
    model, feeds = _scene("conv", "Mul(h, v)", np.array(2.0))
    pass_ = FoldAffine(overrides=(Override(None, nodes=("aff*",)),))
    assert reasons(apply_exact(pass_, model, feeds)) == {"affine": EXCLUDED}


_SHARED = {
    "MatMul": ("MatMul(x, w)", (64, 48), (48,)),
    "Gemm": ("Gemm <transB = 1> (x, w)", (48, 64), (48,)),
    "Conv": ("Conv(x, w)", (48, 16, 1, 1), (48, 1, 1)),
    "ConvTranspose": ("ConvTranspose(x, w)", (16, 48, 1, 1), (48, 1, 1)),
}


def _shared(op: str, *, alike: bool) -> tuple[Model, dict[str, np.ndarray]]:
    """Three nodes that read one weight, a factor and a shift behind each."""
    call, shape, vector = _SHARED[op]
    axes = "N, 16, 2, 2" if op.startswith("Conv") else "N, 64"
    nodes, weights = [], {"w": normal(*shape)}
    for k in range(3):
        x = f"x{k}"
        nodes.append(
            f"h{k} = {call.replace('x', x)}  m{k} = Mul(h{k}, s{k})  a{k} = Add(m{k}, b{k})"
            f"  y{k} = Relu(a{k})"
        )
        seed = 1 if alike else k + 1
        weights[f"s{k}"] = normal(*vector, seed=seed)
        weights[f"b{k}"] = normal(*vector, seed=seed + 9)
    given = ", ".join(f"float[{axes}] x{k}" for k in range(3))
    outs = ", ".join(
        f"float[{axes.replace('16', '48').replace('64', '48')}] y{k}" for k in range(3)
    )
    model = model_of(f"g ({given}) => ({outs}) {{ {' '.join(nodes)} }}", **weights)
    lengths = (2, 16, 2, 2) if op.startswith("Conv") else (2, 64)
    return model, {f"x{k}": normal(*lengths, seed=k) for k in range(3)}


@pytest.mark.parametrize("op", _SHARED)
@pytest.mark.parametrize("alike", [True, False])
def test_a_shared_weight_is_not_stored_for_each_of_its_readers(op: str, alike: bool) -> None:
    """Six layers that share a weight made the file 570 % as large."""
    model, feeds = _shared(op, alike=alike)
    report = apply_exact(FoldAffine(), model, feeds, tolerance=1e-5)
    shapes = [each.shape for each in stored(model).values()]
    assert shapes.count(_SHARED[op][1]) == 1
    if alike:
        assert "Mul" not in ops(model)
        assert not reasons(report) or op == "MatMul"
    else:
        assert ops(model).count("Mul") >= 2
        assert any("others read 'w' too: storing it" in each for each in reasons(report).values())


def test_small_shared_weights_are_folded_up_to_a_limit() -> None:
    model, feeds = _shared("MatMul", alike=False)
    report = apply_exact(FoldAffine(max_growth=2 * 64 * 48 * 4), model, feeds, tolerance=1e-5)
    assert report.error is None
    assert "Mul" not in ops(model)
