"""What holds for every pass that stores weights small and computes in float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.ir.model import Constant
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import (
    BinarizeWeights,
    ConvertFloat,
    FoldConstants,
    MergeDuplicates,
    PalettizeWeights,
    QuantizeWeights,
    TernarizeWeights,
)
from onnxcompress.qdq.stored_weights import WeightStorage
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.runtime.session import Session
from tests.helpers import node, outputs
from tests.passes.restored import dims, restored
from tests.passes.support import apply, model_of, normal, opset, reasons, sqnr, stored

PASSES = [BinarizeWeights(bases=3), TernarizeWeights(), PalettizeWeights(), ConvertFloat()]
ONCE = {"binarize-weights": 9.0, "ternarize-weights": 14.0, "palettize-weights": 7.0}
ONCE |= {"convert-float": 1.9}
"""How many times smaller a weight of [256, 96] must become, one copy of it."""

X = normal(4, 256)
W = normal(256, 96, seed=1)
PRODUCT = "g (float[N, 256] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }"

every_pass = pytest.mark.parametrize("pass_", PASSES, ids=[pass_.name for pass_ in PASSES])


@every_pass
@pytest.mark.parametrize(
    ("call", "shape", "image"),
    [
        ("Conv(x, w)", (32, 8, 3, 3), True),
        ("Conv <group = 4> (x, w)", (32, 2, 5, 5), True),
        ("ConvTranspose(x, w)", (8, 32, 3, 3), True),
        ("ConvTranspose <group = 2> (x, w)", (8, 32, 3, 3), True),
        ("Gemm(x, w)", (256, 96), False),
        ("Gemm <transB = 1> (x, w)", (96, 256), False),
        ("MatMul(x, w)", (256, 96), False),
        ("MatMul(x, w)", (2, 256, 96), False),
    ],
)
def test_every_weighted_node_computes_with_the_restored_weight(
    pass_: WeightStorage, call: str, shape: tuple[int, ...], image: bool
) -> None:
    given = "[N, 8, 9, 9]" if image else "[N, 256]"
    text = f"g (float{given} x) => (float{dims(len(shape))} y) {{ [n] y = {call} }}"
    w = normal(*shape)
    model = model_of(text, w=w)
    feeds = {"x": normal(2, 8, 9, 9) if image else X}
    apply(pass_, model)
    small = restored(model, "n")
    assert small.shape == shape and 4 < sqnr(w, small) < 90
    expected = outputs(model_of(text, w=small), feeds)["y"]
    np.testing.assert_array_equal(outputs(model, feeds)["y"], expected)
    fused = Session(io.to_bytes(model)).run(feeds)["y"]
    np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-4)
    assert executed_ops(io.to_bytes(model)) == executed_ops(io.to_bytes(model_of(text, w=w)))


@every_pass
@pytest.mark.parametrize("axis", [0, 1])
def test_tables_are_restored_whole(pass_: WeightStorage, axis: int) -> None:
    table = normal(40, 64)
    text = f"g (int64[S] i) => (float[d0, d1] y) {{ [n] y = Gather <axis = {axis}> (t, i) }}"
    model = model_of(text, t=table)
    apply(pass_, model)
    indices = np.array([3, 39, 0])
    expected = restored(model, "n", 0).take(indices, axis)
    assert sqnr(table.take(indices, axis), expected) > 4
    np.testing.assert_array_equal(outputs(model, {"i": indices})["y"], expected)
    assert executed_ops(io.to_bytes(model)) == {"Gather": 1}


@every_pass
def test_a_shared_weight_is_stored_once_whoever_reads_it(pass_: WeightStorage) -> None:
    model = model_of(
        """g (float[N, 256] x, float[N, 96] z, int64[S] i) =>
             (float[N, 96] a, float[N, 256] b, float[S, 96] c, float[96, 256] d) {
          [n] a = MatMul(x, w)  d = Transpose(w)  b = MatMul(z, d)  c = Gather(w, i) }""",
        w=W,
    )
    report = apply(pass_, model)
    assert report.bytes_before / report.bytes_after > ONCE[pass_.name]
    assert not any(array.shape == W.shape for name, array in stored(model).items() if name == "w")
    small = restored(model, "n")
    feeds = {"x": X, "z": normal(3, 96), "i": np.array([5])}
    got = outputs(model, feeds)
    np.testing.assert_allclose(got["a"], X.astype(np.float64) @ small, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(got["d"], small.T)
    np.testing.assert_array_equal(got["c"], small[[5]])


@every_pass
@pytest.mark.parametrize("choice", [True, False])
def test_branches_share_one_weight(pass_: WeightStorage, choice: bool) -> None:
    model = model_of(
        """g (float[N, 256] x, bool c) => (float[N, 96] y) {
          y = If (c) <
            then_branch = t () => (float[N, 96] r) { [n] r = MatMul(x, w) },
            else_branch = e () => (float[N, 96] s) { a = Neg(x)  s = MatMul(a, w) }> }""",
        w=W,
    )
    report = apply(pass_, model)
    assert report.bytes_before / report.bytes_after > ONCE[pass_.name]
    assert not apply(MergeDuplicates(), model).modified
    plain = model_of(PRODUCT, w=W)
    apply(pass_, plain)
    sign = 1 if choice else -1
    expected = sign * X.astype(np.float64) @ restored(plain, "n")
    feeds = {"x": X, "c": np.array(choice)}
    for got in (outputs(model, feeds), Session(io.to_bytes(model)).run(feeds)):
        np.testing.assert_allclose(got["y"], expected, rtol=1e-4, atol=1e-4)
    assert executed_ops(io.to_bytes(model)) == {"If": 1, "MatMul": 2, "Neg": 1}


@every_pass
def test_folding_constants_leaves_large_weights_packed(pass_: WeightStorage) -> None:
    w = normal(512, 512)
    model = model_of("g (float[N, 512] x) => (float[N, 512] y) { y = MatMul(x, w) }", w=w)
    apply(pass_, model)
    size = model.weight_bytes
    apply(FoldConstants(), model)
    assert model.weight_bytes <= size


@every_pass
def test_the_file_shrinks(pass_: WeightStorage, tmp_path: Path) -> None:
    model = model_of(
        "g (float[N, 512] x) => (float[N, c] y) { y = MatMul(x, w) }", w=normal(512, 1024)
    )
    before = io.save(model, tmp_path / "before.onnx")[0].stat().st_size
    apply(pass_, model)
    after = io.save(model, tmp_path / "after.onnx")[0].stat().st_size
    assert before / after > ONCE[pass_.name]
    assert after < model.weight_bytes + 6000


@every_pass
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("MatMul(x, live)", "its weight is not stored as float32 in the model"),
        ("MatMul(x, small)", "512 elements < min_elements=1024"),
        ("MatMul(x, nan)", "its weight holds NaN or infinities"),
        ("LSTM <hidden_size = 4> (steps, lw, lr)", "recurrent weights stay float"),
    ],
)
def test_candidates_that_stay_float_are_told(pass_: WeightStorage, call: str, reason: str) -> None:
    model = model_of(
        f"""g (float[4, 256] x, float[256, 4] live, float[5, 2, 3] steps) => (float y) {{
          [n] y = {call} }}""",
        small=normal(256, 2),
        nan=np.full((256, 32), np.nan, np.float32),
        lw=normal(1, 16, 3),
        lr=normal(1, 16, 4),
    )
    report = apply(pass_, model)
    assert not report.modified
    assert reasons(report)["n"].startswith(reason)


@every_pass
def test_other_types_and_returned_weights_are_told(pass_: WeightStorage) -> None:
    model = model_of(
        """g (double[N, 256] x, float[N, 256] z) =>
             (double[N, 96] y, float[N, 96] u, float[256, 96] w) {
          [double] y = MatMul(x, v)  [returned] u = MatMul(z, w) }""",
        v=W.astype(np.float64),
        w=W,
    )
    report = apply(pass_, model)
    assert not report.modified
    assert reasons(report) == {
        "double": "its weight is float64, not float32; use-float32 before this pass changes that",
        "returned": "a graph returns its weight as it stands",
    }


@every_pass
def test_overrides(pass_: WeightStorage) -> None:
    model = model_of(
        """g (float[N, 256] x) => (float[N, 96] y, float[N, 96] z, float[N, 96] u, float[N, 96] p) {
          [keep] y = MatMul(x, w)  [go] z = MatMul(x, q)  [other] u = MatMul(x, v)
          [kept] p = MatMul(x, w) }""",
        w=W,
        q=-W,
        v=normal(256, 96, seed=2),
    )
    high = dataclasses.replace(pass_, min_elements=10**6)
    overrides = (Override(None, nodes=("keep",)), Override(high, nodes=("oth*",)))
    report = apply(dataclasses.replace(pass_, overrides=overrides), model)
    assert reasons(report) == {
        "keep": EXCLUDED,
        "kept": "'keep' reads its weight too and keeps it: stored twice, it grows",
        "other": "24576 elements < min_elements=1000000",
    }
    assert isinstance(node(model, "keep").inputs[1], Constant)
    assert not isinstance(node(model, "go").inputs[1], Constant)


@every_pass
@pytest.mark.parametrize("version", [9, 13, 21])
def test_opsets(pass_: WeightStorage, version: int) -> None:
    model = model_of(opset(version) + PRODUCT, w=W)
    apply(pass_, model)
    assert model.opset == max(version, pass_.required_opset())
    assert executed_ops(io.to_bytes(model)) == {"MatMul": 1}


@every_pass
def test_scales_of_a_table_stay_as_they_are(pass_: WeightStorage) -> None:
    """Small floats have no digits left for the smallest of them."""
    model = model_of(
        "g (int64[N] i, float[N, 64] x) => (float[N, 64] y, float[N, 2000] z) "
        "{ y = Gather(t, i)  v = Transpose <perm = [1, 0]> (t)  z = MatMul(x, v) }",
        t=normal(2000, 64),
    )
    apply(QuantizeWeights(), model)
    before = model.weight_bytes
    report = apply(pass_, model)
    assert not report.modified and model.weight_bytes == before
    assert "its rows hold one number each: scales of a table" in reasons(report).values()
