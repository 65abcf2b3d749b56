from pathlib import Path

import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.ir.model import Constant
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import MergeDuplicates, QuantizeWeights
from onnxcompress.passes.quantize_weights import WeightGranularity
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
        ("LSTM <hidden_size = 4> (steps, lw, lr)", "recurrent weights stay float"),
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
