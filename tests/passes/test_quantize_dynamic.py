import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import QuantizeDynamic
from onnxcompress.quantization.saturation import PAIR_LIMIT, pair_sums
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.target import INT8_TRAITS, Target
from tests.helpers import node, ops, outputs

from .support import Array, apply, model_of, normal, opset, reasons, sqnr, stored

X = normal(3, 7, 64)
W = normal(64, 96, seed=1)
PRODUCT = ["Cast", "MatMulInteger", "Mul", "Mul"]


def _weights(model: Model) -> dict[str, Array]:
    return {
        name: array
        for name, array in stored(model).items()
        if array.dtype == np.int8 and array.ndim
    }


def _reference(x: Array, w: Array, largest: Array | None = None) -> Array:
    """DynamicQuantizeLinear and int8 weights, in float64 and int64; `largest` becomes 127."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    zero = np.clip(np.rint(np.float32(0 - np.float32(low)) / scale), 0, 255)
    levels = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    steps = ((np.abs(w).max(0) if largest is None else largest) / 127).astype(np.float32)
    total = levels.astype(np.int64) @ np.rint(w / steps).astype(np.int64)
    return total * (np.float64(scale) * steps.astype(np.float64))


def test_a_matmul_is_fused_and_equals_integer_arithmetic() -> None:
    model = model_of("g (float[N, S, 64] x) => (float[N, S, 96] y) { y = MatMul(x, w) }", w=W)
    before = outputs(model, {"x": X})["y"]
    report = apply(QuantizeDynamic(), model)
    assert report.skips == ()
    assert sorted(ops(model)) == sorted([*PRODUCT, "DynamicQuantizeLinear"])
    fused = executed_ops(io.to_bytes(model))
    assert fused == {"DynamicQuantizeMatMul": 1}
    after = outputs(model, {"x": X})["y"]
    np.testing.assert_allclose(after, _reference(X, W), rtol=1e-5, atol=1e-4)
    assert sqnr(before, after) > 35
    assert report.bytes_after < 0.27 * report.bytes_before


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("bias", ["", ", b", ", row", ", one"])
def test_gemm_with_either_weight_and_any_bias(flag: int, bias: str) -> None:
    model = model_of(
        f"g (float[N, 64] x) => (float[N, 96] y) {{ y = Gemm <transB = {flag}> (x, w{bias}) }}",
        w=W.T.copy() if flag else W,
        b=normal(96),
        row=normal(1, 96),
        one=normal(1),
    )
    before = outputs(model, {"x": X[0]})["y"]
    apply(QuantizeDynamic(), model)
    assert sorted(ops(model)) == sorted(
        [*PRODUCT, "DynamicQuantizeLinear", *(["Add"] if bias else [])]
    )
    [(_, weight)] = _weights(model).items()
    assert weight.shape == (64, 96)
    assert "DynamicQuantizeMatMul" in executed_ops(io.to_bytes(model))
    assert sqnr(before, outputs(model, {"x": X[0]})["y"]) > 35


def test_a_bias_after_a_matmul_stays_an_add_and_is_fused() -> None:
    model = model_of(
        "g (float[N, S, 64] x) => (float[N, S, 96] y) { h = MatMul(x, w)  y = Add(h, b) }",
        w=W,
        b=normal(96),
    )
    apply(QuantizeDynamic(), model)
    assert executed_ops(io.to_bytes(model)) == {"DynamicQuantizeMatMul": 1}
    expected = _reference(X, W) + normal(96)
    np.testing.assert_allclose(outputs(model, {"x": X})["y"], expected, rtol=1e-5, atol=1e-4)


def test_a_shared_input_is_quantized_once_and_a_shared_weight_stored_once() -> None:
    model = model_of(
        """g (float[N, S, 64] x) => (float[N, S, 96] a, float[N, S, 96] b, float[N, S, 96] c) {
          a = MatMul(x, w)  b = MatMul(x, v)  n = Neg(x)  c = MatMul(n, w) }""",
        w=W,
        v=normal(64, 96, seed=2),
    )
    before = outputs(model, {"x": X})
    apply(QuantizeDynamic(), model)
    assert ops(model).count("DynamicQuantizeLinear") == 2  # of x and of n
    assert len(_weights(model)) == 2
    for name, after in outputs(model, {"x": X}).items():
        assert sqnr(before[name], after) > 35
    assert [output.name for output in model.graph.outputs] == ["a", "b", "c"]


def test_embedding_rows_are_exactly_those_of_int8() -> None:
    table = normal(50, 128, seed=3)
    table[7] = 0.0
    model = model_of(
        "g (int64[N, S] i) => (float[N, S, 128] y) { y = Gather <axis = 0> (t, i) }", t=table
    )
    indices = {"i": np.array([[0, 7, 49], [-1, 3, 7]])}
    report = apply(QuantizeDynamic(), model)
    assert ops(model) == ["Gather", "Cast", "Gather", "Mul"]
    scale = np.abs(table).max(1, keepdims=True) / np.float32(127)
    scale[7] = 1
    expected = np.rint(table / scale) * scale
    np.testing.assert_array_equal(outputs(model, indices)["y"], expected[indices["i"]])
    assert report.bytes_after == 50 * 128 + 50 * 4


def test_two_readers_of_one_table_and_a_tied_weight() -> None:
    model = model_of(
        """g (int64[S] i, int64[S] j) => (float[S, 80] y) {
          a = Gather(t, i)  b = Gather(t, j)  s = Add(a, b)
          r = Transpose <perm = [1, 0]> (u)  y = MatMul(s, v) }""",
        t=normal(80, 64),
        u=normal(2, 2),
        v=normal(80, 64).T.copy(),
    )
    feeds = {"i": np.array([1, 2]), "j": np.array([3, 4])}
    before = outputs(model, feeds)["y"]
    apply(QuantizeDynamic(), model)
    assert sorted(array.shape for array in _weights(model).values()) == [(64, 80)]
    assert sqnr(before, outputs(model, feeds)["y"]) > 35


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("call", ["MatMul(x, w)", "Gemm <transB = 1> (x, t)"])
def test_products_do_not_saturate_on_the_target(target: Target, call: str) -> None:
    model = model_of(f"g (float[N, 64] x) => (float[N, 96] y) {{ y = {call} }}", w=W, t=W.T.copy())
    apply(QuantizeDynamic(), model, target=target)
    [weight] = [each for each in _weights(model).values() if each.shape == W.shape]
    if INT8_TRAITS[target].pairs_saturate:
        sums = pair_sums(weight.T).max(axis=1)
        assert (sums <= PAIR_LIMIT).all() and (sums >= PAIR_LIMIT - 2).all()
        largest = pair_sums(W.T).max(axis=1)
    else:
        largest = np.abs(W).max(0)
        assert (np.abs(weight).max(0) == 127).all()  # every column uses its range
    x = X[0]
    np.testing.assert_allclose(
        outputs(model, {"x": x})["y"], _reference(x, W, largest), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("Conv(image, kernel)", "onnxruntime's ConvInteger is several times slower"),
        ("ConvTranspose(image, kernel)", "onnxruntime has no integer ConvTranspose"),
        ("GRU <hidden_size = 4> (steps, gw, gr)", "84 elements < min_elements=100"),
        ("MatMul(rows, live)", "its second operand is not stored: it multiplies by an activation"),
        ("MatMul(rows, small)", "64 elements < min_elements=100"),
        ("MatMul(rows, stack)", "its weight [2, 64, 32] is not one matrix"),
        ("MatMul(rows, nan)", "its weight holds NaN or infinities"),
        ("Gemm <alpha = 0.5> (rows, w)", "scales or transposes its input (alpha, beta, transA)"),
        ("Gemm <transA = 1> (flipped, w)", "scales or transposes its input (alpha, beta, transA)"),
        ("Gather <axis = 1> (w, i)", "does not read rows of a matrix"),
        ("Gather(stack, i)", "does not read rows of a matrix"),
        (
            "Gather(wide, i)",
            "its weight is float64, not float32; use-float32 before this pass changes that",
        ),
    ],
)
def test_candidates_that_stay_float_are_told(call: str, reason: str) -> None:
    model = model_of(
        f"""g (float[1, 3, 8, 8] image, float[5, 2, 3] steps, float[4, 64] rows,
          float[64, 4] flipped, float[64, 8] live, int64[2] i) => ({{kind}} y) {{
          [n] y = {call} }}""".replace("{kind}", "double" if "wide" in call else "float"),
        kernel=normal(3, 12, 3, 3) if "Transpose" in call else normal(12, 3, 3, 3),
        gw=normal(1, 12, 3),
        gr=normal(1, 12, 4),
        small=normal(64, 1),
        stack=normal(2, 64, 32),
        nan=np.full((64, 8), np.nan, np.float32),
        w=W,
        wide=normal(64, 96, dtype=np.float64),
    )
    report = apply(QuantizeDynamic(min_elements=100), model)
    assert not report.modified
    assert reasons(report)["n"].startswith(reason)


def test_float16_is_told() -> None:
    model = model_of(
        "g (float16[N, 64] x) => (float16[N, 96] y) { [n] y = MatMul(x, w) }",
        w=W.astype(np.float16),
    )
    told = reasons(apply(QuantizeDynamic(), model))
    assert told == {
        "n": "its weight is float16, not float32; use-float32 before this pass changes that"
    }


def test_lookups_that_are_no_tables_are_no_candidates() -> None:
    model = model_of(
        """g (float[N, S] x) => (int64 y, float[S] z) <int64 zero = {0}> {
          s = Shape(x)  y = Gather <axis = 0> (s, zero)  z = Gather <axis = 0> (x, zero) }"""
    )
    assert apply(QuantizeDynamic(), model).skips == ()


def test_embeddings_can_stay_float() -> None:
    model = model_of("g (int64[S] i) => (float[S, 96] y) { [n] y = Gather(t, i) }", t=W)
    assert reasons(apply(QuantizeDynamic(embeddings=False), model)) == {"n": "embeddings=false"}


def test_overrides_by_name_and_by_op_type() -> None:
    model = model_of(
        """g (float[N, 64] x, int64[N] i) => (float[N, 96] y, float[N, 96] z, float[N, 96] t) {
          [head] y = MatMul(x, w)  [body] z = MatMul(x, w2)  [table] t = Gather(w, i) }""",
        w=W,
        w2=-W,
    )
    pass_ = QuantizeDynamic(
        overrides=(
            Override(None, nodes=("he*",)),
            Override(QuantizeDynamic(min_elements=10**6), op_types=("Gather",)),
        )
    )
    report = apply(pass_, model)
    assert reasons(report) == {"head": EXCLUDED, "table": "6144 elements < min_elements=1000000"}
    assert isinstance(node(model, "head").inputs[1], Constant)
    assert ops(model).count("MatMulInteger") == 1


@pytest.mark.parametrize("choice", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_in_branches_that_read_the_same_tensor(choice: bool, outside: bool) -> None:
    extra = "z = MatMul(h, w)" if outside else "z = Neg(h)"
    model = model_of(
        f"""g (float[N, 64] x, bool c) => (float[N, 96] y, float[N, k] z) {{
          h = Abs(x)  {extra}
          y = If (c) <
            then_branch = t () => (float[N, 96] r) {{ r = MatMul(h, w) }},
            else_branch = e () => (float[N, 96] s) {{ s = MatMul(h, v) }}> }}""",
        w=W,
        v=normal(64, 96, seed=2),
    )
    feeds = {"x": X[0], "c": np.array(choice)}
    before = outputs(model, feeds)
    apply(QuantizeDynamic(), model)
    assert ops(model).count("DynamicQuantizeLinear") == (1 if outside else 2)
    assert ops(model).count("MatMulInteger") == (3 if outside else 2)
    after = outputs(model, feeds)
    assert sqnr(before["y"], after["y"]) > 35
    assert len(_weights(model)) == 2


@pytest.mark.parametrize("version", [9, 11, 13, 21])
def test_opsets(version: int) -> None:
    model = model_of(
        opset(version) + "g (float[N, 64] x) => (float[N, 96] y) { y = MatMul(x, w) }", w=W
    )
    before = outputs(model, {"x": X[0]})["y"]
    apply(QuantizeDynamic(), model)
    assert model.opset == max(version, 13)
    assert sqnr(before, outputs(model, {"x": X[0]})["y"]) > 35


def test_vectors() -> None:
    model = model_of("g (float[64] x) => (float[96] y) { y = MatMul(x, w) }", w=W)
    apply(QuantizeDynamic(), model)
    x = X[0, 0]
    np.testing.assert_allclose(
        outputs(model, {"x": x})["y"], _reference(x, W), rtol=1e-5, atol=1e-4
    )
