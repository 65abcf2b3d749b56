from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.model import Constant
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import MergeDuplicates, QuantizeWeights
from onnxcompress.qdq.integer_weights import (
    WeightBits,
    WeightGranularity,
    WeightScales,
)
from onnxcompress.qdq.weight_forms import WeightForm
from onnxcompress.quantization.granularity import PER_TENSOR, Granularity, PerBlock, PerChannel
from onnxcompress.quantization.qparams import (
    asymmetric_qparams,
    dequantize,
    quantize,
    symmetric_qparams,
)
from onnxcompress.runtime.session import Session
from tests.helpers import node, ops, outputs

from .support import Array, apply, model_of, normal, opset, reasons, sqnr, stored

X = normal(4, 64)
W = normal(64, 96, seed=1)
PRODUCT = "g (float[N, 64] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }"


def _rounded(w: Array, axis: int | None) -> Array:
    """What int8 leaves of a weight, with one scale along `axis` or one for all."""
    others = tuple(a for a in range(w.ndim) if a != axis)
    scale = np.abs(w).max(others if axis is not None else None, keepdims=True) / np.float32(127)
    return np.rint(w / scale).astype(np.float32) * scale.astype(np.float32)


@pytest.mark.parametrize(
    ("granularity", "axis"),
    [(WeightGranularity.PER_CHANNEL, 1), (WeightGranularity.PER_TENSOR, None)],
)
def test_the_product_is_that_of_the_rounded_weight(
    granularity: WeightGranularity, axis: int | None
) -> None:
    model = model_of(PRODUCT, w=W)
    report = apply(QuantizeWeights(granularity=granularity), model)
    assert ops(model) == ["DequantizeLinear", "MatMul"]
    expected = X.astype(np.float64) @ _rounded(W, axis)
    np.testing.assert_allclose(outputs(model, {"x": X})["y"], expected, rtol=1e-5, atol=1e-5)
    scales = 96 if axis == 1 else 1
    assert report.bytes_after == 64 * 96 + scales * (4 + 1)


@pytest.mark.parametrize(
    ("call", "shape", "axis", "image"),
    [
        ("Conv(x, w)", (32, 8, 3, 3), 0, True),
        ("Conv <group = 4> (x, w)", (32, 2, 5, 5), 0, True),
        ("ConvTranspose(x, w)", (8, 32, 3, 3), 1, True),
        ("ConvTranspose <group = 2> (x, w)", (8, 32, 3, 3), 1, True),
        ("Gemm(x, w)", (64, 96), 1, False),
        ("Gemm <transB = 1> (x, w)", (96, 64), 0, False),
    ],
)
def test_every_weighted_node_has_a_scale_for_each_output_channel(
    call: str, shape: tuple[int, ...], axis: int, image: bool
) -> None:
    text = "g (float%s x) => (float%s y) { [n] y = %s }"
    dims = ("[N, 8, 9, 9]", "[N, c, a, b]") if image else ("[N, 64]", "[N, c]")
    w = normal(*shape)
    model, reference = (
        model_of(text % (*dims, call), w=values) for values in (w, _rounded(w, axis))
    )
    feeds = {"x": normal(2, 8, 9, 9) if image else X}
    apply(QuantizeWeights(), model)
    np.testing.assert_allclose(
        outputs(model, feeds)["y"], outputs(reference, feeds)["y"], rtol=1e-4, atol=1e-4
    )


def test_a_shared_weight_is_stored_once() -> None:
    model = model_of(
        """g (float[N, 64] x) => (float[N, 96] y, float[N, 96] z) {
          y = MatMul(x, w)  a = Neg(x)  z = MatMul(a, w) }""",
        w=W,
    )
    apply(QuantizeWeights(), model)
    assert [array.shape for array in stored(model).values() if array.dtype == np.int8] == [
        (64, 96),
        (96,),
    ]
    expected = X.astype(np.float64) @ _rounded(W, 1)
    got = outputs(model, {"x": X})
    np.testing.assert_allclose(got["y"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got["z"], -expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("choice", [True, False])
def test_a_weight_that_two_branches_share(choice: bool) -> None:
    model = model_of(
        """g (float[N, 64] x, bool c) => (float[N, 96] y) {
          y = If (c) <
            then_branch = t () => (float[N, 96] r) { r = MatMul(x, w) },
            else_branch = e () => (float[N, 96] s) { a = Neg(x)  s = MatMul(a, w) }> }""",
        w=W,
    )
    feeds = {"x": X, "c": np.array(choice)}
    before = outputs(model, feeds)["y"]
    report = apply(QuantizeWeights(), model)
    # onnxruntime does not load it unless each branch stores its own.
    assert report.bytes_after < 0.55 * report.bytes_before
    assert not apply(MergeDuplicates(), model).modified
    assert sqnr(before, outputs(model, feeds)["y"]) > 35


def test_the_file_shrinks(tmp_path: Path) -> None:
    model = model_of(PRODUCT, w=normal(64, 96))
    before = io.save(model, tmp_path / "before.onnx")[0].stat().st_size
    apply(QuantizeWeights(), model)
    after = io.save(model, tmp_path / "after.onnx")[0].stat().st_size
    assert after < 64 * 96 + 96 * 5 + 700
    assert before > 4 * 64 * 96


def test_tables_have_a_scale_for_each_row() -> None:
    table = normal(40, 64)
    table[:, 0] *= 50
    model = model_of("g (int64[S] i) => (float[S, 64] y) { y = Gather(t, i) }", t=table)
    apply(QuantizeWeights(), model)
    indices = np.array([3, 39, 0])
    np.testing.assert_array_equal(outputs(model, {"i": indices})["y"], _rounded(table, 0)[indices])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("MatMul(x, live)", "its weight is not stored as float32 in the model"),
        ("MatMul(x, small)", "128 elements < min_elements=1024"),
        ("MatMul(x, nan)", "its weight holds NaN or infinities"),
        ("Gather(stack, i)", "does not read rows of a matrix"),
        ("LSTM <hidden_size = 4> (steps, lw, lr)", "112 elements < min_elements=1024"),
    ],
)
def test_candidates_that_stay_float_are_told(call: str, reason: str) -> None:
    model = model_of(
        f"""g (float[4, 64] x, float[64, 4] live, int64[2] i, float[5, 2, 3] steps) => (float y) {{
          [n] y = {call} }}""",
        small=normal(64, 2),
        nan=np.full((64, 32), np.nan, np.float32),
        stack=normal(2, 64, 32),
        lw=normal(1, 16, 3),
        lr=normal(1, 16, 4),
    )
    report = apply(QuantizeWeights(), model)
    assert not report.modified
    assert reasons(report)["n"].startswith(reason)


def test_a_stack_of_matrices_is_stored_too() -> None:
    stack = normal(3, 64, 32)
    model = model_of("g (float[3, 4, 64] x) => (float[3, 4, 32] y) { y = MatMul(x, w) }", w=stack)
    x = normal(3, 4, 64)
    apply(QuantizeWeights(), model)
    expected = x.astype(np.float64) @ _rounded(stack, 2)
    np.testing.assert_allclose(outputs(model, {"x": x})["y"], expected, rtol=1e-5, atol=1e-5)


def test_overrides() -> None:
    model = model_of(
        """g (float[N, 64] x) => (float[N, 96] y, float[N, 96] z) {
          [keep] y = MatMul(x, w)  [coarse] z = MatMul(x, v) }""",
        w=W,
        v=normal(64, 96, seed=2),
    )
    coarse = QuantizeWeights(granularity=WeightGranularity.PER_TENSOR)
    pass_ = QuantizeWeights(
        overrides=(Override(None, nodes=("keep",)), Override(coarse, nodes=("coarse",)))
    )
    assert reasons(apply(pass_, model)) == {"keep": EXCLUDED}
    assert isinstance(node(model, "keep").inputs[1], Constant)
    scale = node(model, "coarse").inputs[1].inputs[0].inputs[1]
    assert isinstance(scale, Constant) and scale.shape == ()


@pytest.mark.parametrize("version", [9, 13, 21])
def test_opsets(version: int) -> None:
    model = model_of(opset(version) + PRODUCT, w=W)
    apply(QuantizeWeights(), model)
    assert model.opset == max(version, 13)


BLOCKS = WeightGranularity.PER_BLOCK
LOWEST = {2: 25, 4: 21, 8: 13, 16: 21}


def _stored(w: Array, granularity: Granularity, bits: int, symmetric: bool) -> Array:
    """What the arithmetic, which has its own tests, leaves of a weight."""
    qparams = (symmetric_qparams if symmetric else asymmetric_qparams)(w, granularity, bits)
    return dequantize(quantize(w, qparams), qparams)


@pytest.mark.parametrize("bits", list(WeightBits))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", list(WeightGranularity))
@pytest.mark.parametrize(
    ("call", "shape", "axis", "inputs"),
    [
        ("MatMul(x, w)", (72, 44), 1, 0),  # 72 is no multiple of 16
        ("Gemm(x, w)", (72, 44), 1, 0),
        ("Gemm <transB = 1> (x, w)", (41, 72), 0, 1),
        ("Conv(x, w)", (20, 18, 3, 3), 0, 1),
        ("ConvTranspose(x, w)", (18, 20, 3, 3), 1, 0),
    ],
)
def test_every_width_and_granularity(
    bits: WeightBits,
    symmetric: bool,
    granularity: WeightGranularity,
    call: str,
    shape: tuple[int, ...],
    axis: int,
    inputs: int,
) -> None:
    image = "Conv" in call
    dims = ("[N, 18, 7, 7]", "[N, c, a, b]") if image else ("[N, 72]", "[N, c]")
    text = opset(11) + f"g (float{dims[0]} x) => (float{dims[1]} y) {{ [n] y = {call} }}"
    w, x = normal(*shape), normal(3, 18, 7, 7) if image else normal(5, 72)
    model = model_of(text, w=w)
    pass_ = QuantizeWeights(bits=bits, symmetric=symmetric, granularity=granularity, block_size=16)
    apply(pass_, model)
    assert model.opset == max(LOWEST[bits], 21 if granularity is BLOCKS else 13)
    assert [name for name in ops(model) if name != call.split("(")[0].split()[0]] == [
        "DequantizeLinear"
    ]
    kinds: dict[WeightGranularity, Granularity] = {
        WeightGranularity.PER_TENSOR: PER_TENSOR,
        WeightGranularity.PER_CHANNEL: PerChannel(axis),
        WeightGranularity.PER_BLOCK: PerBlock(inputs, 16),
    }
    rounded = _stored(w, kinds[granularity], bits, symmetric)
    expected = outputs(model_of(text, w=rounded), {"x": x})
    np.testing.assert_allclose(outputs(model, {"x": x})["y"], expected["y"], rtol=1e-4, atol=1e-4)
    fused = Session(io.to_bytes(model)).run({"x": x})["y"]
    # MatMulNBits, which onnxruntime makes of it, rounds activations to 8 bits.
    assert np.abs(fused - expected["y"]).max() < 0.02 * np.abs(expected["y"]).max()


@pytest.mark.parametrize("bits", [WeightBits.TWO, WeightBits.FOUR])
def test_bytes_below_a_byte(bits: WeightBits) -> None:
    model = model_of(PRODUCT, w=W)
    report = apply(QuantizeWeights(bits=bits, granularity=BLOCKS), model)
    assert report.bytes_after == 64 * 96 * bits // 8 + 2 * 96 * 4  # symmetric: no zero points


@pytest.mark.parametrize(
    ("call", "columns"), [("MatMul(x, w)", 42), ("Gemm(x, w)", 42), ("MatMul(x, w)", 41)]
)
def test_two_bits_where_onnxruntime_computes_something_else(call: str, columns: int) -> None:
    model = model_of(
        f"g (float[N, 64] x) => (float[N, c] y) {{ [n] y = {call} }}", w=normal(64, columns)
    )
    report = apply(QuantizeWeights(bits=WeightBits.TWO), model)
    assert not report.modified
    assert "wrong results for 2-bit weights of" in reasons(report)["n"]


def test_a_channel_shorter_than_a_block_has_one_scale() -> None:
    w = normal(64, 1, 5, 5)
    model = model_of(
        "g (float[N, 64, 8, 8] x) => (float y) { [n] y = Conv <group = 64> (x, w) }", w=w
    )
    apply(QuantizeWeights(bits=WeightBits.FOUR, granularity=BLOCKS), model)
    scale = node(model, "n").inputs[1].inputs[0].inputs[1]
    assert isinstance(scale, Constant) and scale.shape == (64,)


@pytest.mark.parametrize("bits", [WeightBits.FOUR, WeightBits.EIGHT])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("depth", [64, 72])
@pytest.mark.parametrize("block_size", [16, 128])
def test_matmul_nbits_gives_the_numbers_of_dequantize_linear(
    bits: WeightBits, symmetric: bool, depth: int, block_size: int
) -> None:
    w, x = normal(depth, 42), normal(5, depth)
    text = f"g (float[N, {depth}] x) => (float[N, 42] y) {{ [n] y = MatMul(x, w) }}"
    model = model_of(opset(13) + text, w=w)
    pass_ = QuantizeWeights(
        bits=bits,
        symmetric=symmetric,
        granularity=BLOCKS,
        block_size=block_size,
        form=WeightForm.MATMUL_NBITS,
    )
    apply(pass_, model)
    assert ops(model) == ["MatMulNBits"]
    expected = x.astype(np.float64) @ _stored(w, PerBlock(0, block_size), bits, symmetric)
    np.testing.assert_allclose(outputs(model, {"x": x})["y"], expected, rtol=1e-5, atol=2e-5)
    fast = Session(io.to_bytes(model)).run({"x": x})["y"]
    # With 8 bits the one fast kernel rounds activations to 8 bits too.
    near = 0.02 * np.abs(expected).max() if bits is WeightBits.EIGHT else 2e-5
    np.testing.assert_allclose(fast, expected, rtol=1e-5, atol=near)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bits": WeightBits.TWO}, "MatMulNBits is written with 4 or 8 bits, not 2"),
        ({"block_size": 24}, "MatMulNBits wants block_size a power of two from 16, not 24"),
        ({"block_size": 0}, "block_size=0 holds no weight"),
        (
            {"granularity": WeightGranularity.PER_CHANNEL},
            "form=matmul-nbits wants granularity=per-block",
        ),
    ],
)
def test_products_that_matmul_nbits_does_not_take(options: dict[str, object], reason: str) -> None:
    model = model_of("g (float[N, 64] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }", w=W)
    given = {"bits": WeightBits.FOUR, "granularity": BLOCKS, **options}
    pass_ = QuantizeWeights(form=WeightForm.MATMUL_NBITS, **given)  # type: ignore[arg-type]
    report = apply(pass_, model)
    assert not report.modified
    assert reasons(report) == {"n": reason}


@pytest.mark.parametrize("form", list(WeightForm))
@pytest.mark.parametrize("bits", [WeightBits.TWO, WeightBits.FOUR])
def test_shared_weights_and_branches_below_a_byte(form: WeightForm, bits: WeightBits) -> None:
    if form is WeightForm.MATMUL_NBITS and bits is WeightBits.TWO:
        return  # refused, see above
    model = model_of(
        """g (float[N, 64] x, bool c) => (float[N, 96] y, float[N, 96] z, float[N, 96] u) {
          y = MatMul(x, w)  a = Neg(x)  z = MatMul(a, w)
          u = If (c) <
            then_branch = t () => (float[N, 96] r) { r = MatMul(x, v) },
            else_branch = e () => (float[N, 96] s) { b = Neg(x)  s = MatMul(b, v) }> }""",
        w=W,
        v=normal(64, 96, seed=5),
    )
    report = apply(QuantizeWeights(bits=bits, granularity=BLOCKS, form=form), model)
    assert report.bytes_after < (bits + 1.5) / 32 * report.bytes_before * 1.5
    integers = [values for values in stored(model).values() if values.nbytes >= 64 * 96 // 2]
    assert len(integers) <= 3  # one for both outside, at most one for each branch
    rounded = [
        x_sign * X.astype(np.float64) @ _stored(values, PerBlock(0, 32), bits, True)
        for x_sign, values in ((1, W), (-1, W), (1, normal(64, 96, seed=5)))
    ]
    for choice, sign in ((True, 1), (False, -1)):
        got = outputs(model, {"x": X, "c": np.array(choice)})
        for value, expected in zip(got.values(), [*rounded[:2], sign * rounded[2]], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", list(WeightBits))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", [WeightGranularity.PER_CHANNEL, BLOCKS])
@pytest.mark.parametrize(
    "indices", [np.array(3), np.array([[5, 0], [39, 39]]), np.zeros((0, 2), int)]
)
def test_tables_of_every_width(
    bits: WeightBits, symmetric: bool, granularity: WeightGranularity, indices: Array
) -> None:
    table = normal(40, 64) + np.float32(0.3)
    rank = ", ".join("ab"[: indices.ndim])
    dims = f"[{rank}]" if rank else ""
    text = f"g (int64{dims} i) => (float y) {{ y = Gather(t, i) }}"
    model = model_of(text, t=table)
    pass_ = QuantizeWeights(
        bits=bits, symmetric=symmetric, granularity=granularity, block_size=16, min_elements=64
    )
    report = apply(pass_, model)
    kind: Granularity = PerBlock(1, 16) if granularity is BLOCKS else PerChannel(0)
    rounded = _stored(table, kind, bits, symmetric)
    got = outputs(model, {"i": indices})["y"]
    np.testing.assert_array_equal(got, rounded[indices])
    scales = 40 * (4 if granularity is BLOCKS else 1)
    zero_points = scales * (2 if bits == 16 else 1) * (not symmetric)
    assert report.bytes_after <= 40 * 64 * bits // 8 + scales * 4 + zero_points + 4096 + 32


@pytest.mark.parametrize(
    ("columns", "options", "reason"),
    [
        (63, {"bits": WeightBits.FOUR}, "its rows of 63 values of 4 bits do not fill bytes"),
        (66, {"bits": WeightBits.TWO}, "its rows of 66 values of 2 bits do not fill bytes"),
        (40, {"granularity": BLOCKS}, "its rows of 40 values do not divide into blocks of 32"),
        (4, {}, "its rows of 4 values are too short for a scale each"),
    ],
)
def test_tables_that_stay_float(columns: int, options: dict[str, object], reason: str) -> None:
    text = "g (int64[S] i) => (float y) { [n] y = Gather(t, i) }"
    model = model_of(text, t=normal(400, columns))
    report = apply(QuantizeWeights(**options), model)  # type: ignore[arg-type]
    assert not report.modified
    assert reasons(report)["n"] == reason


@pytest.mark.parametrize(("bits", "gain"), [(WeightBits.TWO, 3.0), (WeightBits.FOUR, 0.5)])
@pytest.mark.parametrize("granularity", list(WeightGranularity))
def test_fitted_scales_lose_less_and_take_as_much_room(
    bits: WeightBits, gain: float, granularity: WeightGranularity
) -> None:
    text = """g (float[N, 64] x, int64[S] i) => (float[N, 96] y, float[S, 64] t) {
      y = MatMul(x, w)  t = Gather(e, i) }"""
    table, indices = normal(40, 64, seed=3), np.arange(40)
    noise, sizes = [], []
    for scales in WeightScales:
        model = model_of(text, w=W, e=table)
        pass_ = QuantizeWeights(bits=bits, granularity=granularity, scales=scales)
        sizes.append(apply(pass_, model).bytes_after)
        got = outputs(model, {"x": X, "i": indices})
        noise.append((sqnr(X @ W, got["y"]), sqnr(table, got["t"])))
    assert sizes[0] == sizes[1]
    assert all(fitted > plain + gain for plain, fitted in zip(*noise, strict=True))


def test_an_override_with_fewer_bits_raises_the_opset() -> None:
    model = model_of(
        opset(13)
        + """g (float[N, 64] x) => (float[N, 96] y, float[N, 96] z) {
          y = MatMul(x, w)  [coarse] z = MatMul(x, v) }""",
        w=W,
        v=normal(64, 96, seed=2),
    )
    coarse = QuantizeWeights(bits=WeightBits.FOUR)
    apply(QuantizeWeights(overrides=(Override(coarse, nodes=("coarse",)),)), model)
    assert model.opset == 21
    kinds = {values.dtype.name for values in stored(model).values()}
    assert kinds == {"int8", "int4", "float32"}


def test_a_model_that_cannot_be_raised_names_the_node() -> None:
    text = "g (float[N, 64] x) => (float[N, 96] y) { a = MatMul(x, w)  [odd] y = Nonsense(a) }"
    told = r"cannot be raised from opset 13 to 21: node 'odd' \(Nonsense\)"
    with pytest.raises(PassError, match=told):
        PassManager([QuantizeWeights(bits=WeightBits.FOUR)]).run(model_of(opset(13) + text, w=W))


def test_a_real_model_at_8_bits_in_blocks_keeps_its_answers(subject: Path) -> None:
    original = Session(subject / "model.onnx")
    test = load_dataset(str(subject / "test.npz"), original.inputs).take(range(20))
    model = io.load(subject / "model.onnx")
    apply(QuantizeWeights(granularity=BLOCKS, block_size=128, symmetric=False), model)
    raw = io.to_bytes(model)
    assert len(raw) < 0.29 * (subject / "model.onnx").stat().st_size
    compressed = Session(raw)
    for batch in test.batches(10):
        before, after = (
            next(iter(each.run(batch.feeds).values())) for each in (original, compressed)
        )
        assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() >= 0.8
        assert sqnr(before, after) > 20
