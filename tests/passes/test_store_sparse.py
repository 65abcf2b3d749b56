from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.sparse import SparseArray
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeWeights, StoreSparse
from onnxcompress.passes.store_sparse import SparseForm
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.session import Session
from tests.helpers import exported, ops, outputs, reload

from .support import Array, apply, apply_exact, model_of, normal, reasons

X = normal(4, 100)
PRODUCT = "g (float[N, 100] x) => (float[N, 80] y) { [n] y = MatMul(x, w) }"
SPREADING = ["BitShift", "Mod", "Cast", "Reshape", "CumSum", "Mul", "GatherElements", "Reshape"]


def pruned(*shape: int, zeros: float, seed: int = 1, dtype: type = np.float32) -> Array:
    """Seeded values, a share of them zero, some of those negative zeros as w * mask makes them."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape) * 20
    order = random.permutation(values.size)[: round(zeros * values.size)]
    values.reshape(-1)[order] *= 0
    return np.asarray(values.astype(dtype))


def sparse_tensors(model: Model) -> Mapping[str, SparseArray]:
    return {c.name: c.stored for c in model.constants() if isinstance(c.stored, SparseArray)}


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, np.int8, np.uint16]
)
@pytest.mark.parametrize("form", [SparseForm.SPARSE_INITIALIZER, SparseForm.BITMAP])
def test_every_element_comes_back(form: SparseForm, dtype: type) -> None:
    w = pruned(99, 81, zeros=0.96, dtype=dtype)
    model = model_of("g (float z) => (float[99, 81] y) { f = Cast<to = 1>(w)  y = Add(f, z) }", w=w)
    report = apply(StoreSparse(form=form), model)
    assert report.verification == "outputs equal within 0e+00 (relative)"
    got = outputs(reload(model), {"z": np.zeros((), np.float32)})["y"]
    np.testing.assert_array_equal(got, w.astype(np.float32))
    left, width = np.count_nonzero(w), w.itemsize
    if form is SparseForm.SPARSE_INITIALIZER:
        assert report.bytes_after == left * (width + 8)
        assert ops(model) == ["Cast", "Add"]
    else:
        bits = -(-w.size // 8)
        assert bits + (left + 1) * width < report.bytes_after < bits + left * width + 150
        assert set(ops(model)) == {*SPREADING, "Slice", "Add"}


def test_a_type_that_no_bitmap_does_for() -> None:
    w = pruned(99, 81, zeros=0.96, dtype=ml_dtypes.float8_e4m3fn)
    text = "g (float z) => (float[99, 81] y) { [n] f = Cast<to = 1>(w)  y = Add(f, z) }"
    model = model_of(text, w=w)
    report = apply(StoreSparse(form=SparseForm.BITMAP), model)
    assert "does not suit its element type" in reasons(report)["n"]
    apply(StoreSparse(), model)
    assert list(sparse_tensors(model)) == ["w_1"]
    got = outputs(model, {"z": np.zeros((), np.float32)})["y"]
    np.testing.assert_array_equal(got, w.astype(np.float32))


@pytest.mark.parametrize(("zeros", "form"), [(0.95, "bitmap"), (0.999, "sparse"), (0.9, "bitmap")])
def test_the_smallest_is_the_one_that_takes_fewer_bytes(zeros: float, form: str) -> None:
    w = pruned(100, 80, zeros=zeros)
    model = model_of(PRODUCT, w=w)
    apply_exact(StoreSparse(), model, {"x": X})
    assert ops(model) == ["MatMul"] if form == "sparse" else [*SPREADING, "MatMul"]
    assert bool(sparse_tensors(model)) is (form == "sparse")


def test_the_file_is_as_small_as_the_report_says() -> None:
    model = model_of(PRODUCT, w=pruned(100, 80, zeros=0.9))
    before = len(io.to_bytes(model))
    report = apply(StoreSparse(form=SparseForm.SPARSE_INITIALIZER), model)
    assert report.bytes_before == 32000
    assert report.bytes_after == model.weight_bytes == 800 * 12
    assert len(io.to_bytes(model)) == pytest.approx(before - 32000 + 9600, abs=100)
    tensor = exported(model).graph.sparse_initializer[0]
    assert list(tensor.dims) == [100, 80]
    assert list(tensor.indices.dims) == [800]


def test_a_bitmap_is_not_used_where_its_nodes_outweigh_it() -> None:
    w = pruned(32, 32, zeros=0.375)
    model = model_of("g (float[1, 32] x) => (float[1, 32] y) { [n] y = MatMul(x, w) }", w=w)
    report = apply(StoreSparse(), model)
    assert not report.modified
    assert reasons(report) == {"n": "w: needs 37.60% zeros to be smaller, has 37.50%"}


def test_zeros_that_do_not_pay_are_told_with_what_would() -> None:
    model = model_of(PRODUCT, w=pruned(100, 80, zeros=0.6))
    report = apply(StoreSparse(form=SparseForm.SPARSE_INITIALIZER), model)
    assert reasons(report) == {"n": "w: needs 68.34% zeros to be smaller, has 60.00%"}
    for zeros, modified in ((0.6832, False), (0.6836, True)):
        model = model_of(PRODUCT, w=pruned(100, 80, zeros=zeros))
        pass_ = StoreSparse(form=SparseForm.SPARSE_INITIALIZER)
        assert apply(pass_, model).modified is modified


def test_the_least_gain() -> None:
    for gain, modified in ((0.69, True), (0.71, False)):  # 90 % zeros: 30 % of the bytes
        model = model_of(PRODUCT, w=pruned(100, 80, zeros=0.9))
        pass_ = StoreSparse(form=SparseForm.SPARSE_INITIALIZER, least_gain=gain)
        assert apply(pass_, model).modified is modified


def test_what_is_left_alone_and_why() -> None:
    model = model_of(
        """g (float[N, 100] x) => (float[N, 80] y, float[100, 80] returned) {
        [a] h = MatMul(x, returned)  [b] i = Add(h, small)  [c] j = MatMul(x, kept)
        k = Add(i, j)  [d] l = MatMul(x, there)  y = Add(k, l) }""",
        returned=pruned(100, 80, zeros=1),
        small=pruned(80, zeros=1),
        kept=pruned(100, 80, zeros=1, seed=2),
    )
    there = Constant("there", SparseArray.of(pruned(100, 80, zeros=0.99)))
    node = next(node for _, node in model.nodes() if node.name == "d")
    node.inputs[1] = there
    report = apply(StoreSparse(overrides=(Override(None, ("c",)),)), model)
    assert reasons(report) == {
        "a": "returned: a graph returns it as it stands",
        "b": "small: 80 elements < min_elements=1024",
        "c": EXCLUDED,
        "d": "there: is stored sparse already",
    }


@pytest.mark.parametrize("form", [SparseForm.SPARSE_INITIALIZER, SparseForm.BITMAP])
def test_readers_in_bodies_share_one_copy(form: SparseForm) -> None:
    model = model_of(
        """g (bool c, float[N, 100] x) => (float[N, 80] y) { h = MatMul(x, w)  k = If (c) <
        then_branch = t () => (float[N, 80] a) { a = MatMul(x, w) },
        else_branch = e () => (float[N, 80] b) { b0 = MatMul(x, w)  b = Relu(b0) }>
        y = Add(h, k) }""",
        w=pruned(100, 80, zeros=0.95),
    )
    before = [outputs(model, {"c": np.array(c), "x": X})["y"] for c in (True, False)]
    report = apply(StoreSparse(form=form), model)
    assert report.bytes_after < 6000
    for c, expected in zip((True, False), before, strict=True):
        got = outputs(reload(model), {"c": np.array(c), "x": X})["y"]
        np.testing.assert_array_equal(got, expected)


def test_other_domains_get_no_computed_weights() -> None:
    text = """g (float[N, 100] x) => (float[N, 80] y) {
      [n] y = com.microsoft.FusedMatMul(x, w) }"""
    model = model_of('<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> ' + text)
    weight = Constant("w", pruned(100, 80, zeros=0.9))
    next(iter(model.nodes()))[1].inputs[1] = weight
    report = apply(StoreSparse(form=SparseForm.BITMAP), model)
    assert "operator of another domain" in reasons(report)["n"]
    apply_exact(StoreSparse(), model, {"x": X})
    assert list(sparse_tensors(model)) == ["w_1"]


@pytest.mark.parametrize("form", [SparseForm.SPARSE_INITIALIZER, SparseForm.BITMAP])
def test_integers_of_a_quantized_model(form: SparseForm) -> None:
    model = model_of(PRODUCT, w=pruned(100, 80, zeros=0.97))
    PassManager([QuantizeWeights(min_elements=0)]).run(model)
    expected = Session(io.to_bytes(model)).run({"x": X})["y"]
    report = apply(StoreSparse(form=form), model)
    assert report.modified
    assert report.bytes_after < report.bytes_before / 3
    np.testing.assert_array_equal(Session(io.to_bytes(model)).run({"x": X})["y"], expected)


def test_saving_beside_external_data(tmp_path: Path) -> None:
    full = normal(100, 80, seed=3)
    text = PRODUCT.replace("y = MatMul(x, w)", "h = MatMul(x, w) i = MatMul(x, v) y = Add(h, i)")
    model = model_of(text, w=pruned(100, 80, zeros=0.99), v=full)
    before = outputs(model, {"x": X})["y"]
    apply(StoreSparse(), model)
    io.save(model, tmp_path / "model.onnx", external=True)
    assert (tmp_path / "model.onnx.data").stat().st_size == 32000
    again = io.load(tmp_path / "model.onnx")
    assert list(sparse_tensors(again)) == ["w_1"]
    np.testing.assert_array_equal(outputs(again, {"x": X})["y"], before)


def test_new_values_are_dense_again() -> None:
    model = model_of(PRODUCT, w=pruned(100, 80, zeros=0.99))
    apply(StoreSparse(), model)
    apply(QuantizeWeights(min_elements=0), model)
    assert not sparse_tensors(model)
    assert model.weight_bytes == 8000 + 80 * (4 + 1)  # scales and zero points


@pytest.mark.parametrize("subject", ["resnet20"], indirect=True)
def test_a_pruned_resnet_takes_a_seventh(subject: Path) -> None:
    model = io.load(subject / "model.onnx")
    for constant in model.constants():
        if len(constant.shape) == 4:
            values = constant.values.copy()
            values[np.abs(values) < np.quantile(np.abs(values), 0.9)] = 0
            constant.values = values
    feeds = {"input": np.load(subject / "calibration.npz")["input"][:8]}
    expected = Session(io.to_bytes(model)).run(feeds)
    sizes = {}
    for form in SparseForm:
        smaller = reload(model)
        report = apply(StoreSparse(form=form), smaller)
        sizes[form] = len(io.to_bytes(smaller))
        assert report.bytes_after < sizes[form] < report.bytes_after + 40_000
        got = Session(io.to_bytes(smaller)).run(feeds)
        for output, values in expected.items():
            np.testing.assert_array_equal(got[output], values)
    assert sizes[SparseForm.SMALLEST] == sizes[SparseForm.BITMAP] < 190_000
    assert 300_000 < sizes[SparseForm.SPARSE_INITIALIZER] < 350_000


@pytest.mark.parametrize("text", ["least_gain=1.0", "least_gain=-0.1"])
def test_options_out_of_range(text: str) -> None:
    with pytest.raises(RecipeError, match="least_gain must be from 0"):
        parse_pass(f"store-sparse:{text}")
