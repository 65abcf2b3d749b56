"""Forms of stored weights: the fastest for each node, and weights that are unpacked at load."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import GPTQ, QuantizeWeights
from onnxcompress.qdq.integer_weights import WeightBits, WeightGranularity
from onnxcompress.qdq.weight_forms import WeightForm, uses_of_weights
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP
from tests.helpers import node, ops, outputs
from tests.passes.support import Array, apply, model_of, normal, stored

BLOCKS = WeightGranularity.PER_BLOCK
AUTO = WeightForm.AUTO


def product(rows: int, features: int, columns: int = 64) -> Model:
    text = f"g (float[{rows}, {features}] x) => (float y) {{ [n] y = MatMul(x, w) }}"
    return model_of(text, w=normal(features, columns))


def auto(bits: int, granularity: WeightGranularity = BLOCKS) -> QuantizeWeights:
    return QuantizeWeights(bits=WeightBits(bits), granularity=granularity, form=AUTO)


@pytest.mark.parametrize(
    ("bits", "rows", "features", "op"),
    [
        (8, 1, 576, "DequantizeLinear"),
        (8, 1024, 576, "DequantizeLinear"),
        (8, 3, 128, "DequantizeLinear"),
        (8, 4, 128, "Mul"),
        (4, 1, 576, "DequantizeLinear"),
        (4, 127, 576, "DequantizeLinear"),
        (4, 288, 576, "MatMulNBits"),
        (4, 128, 3072, "DequantizeLinear"),
        (4, 64, 128, "Mul"),
        (2, 2, 576, "DequantizeLinear"),
        (2, 3, 576, "Mul"),
        (16, 1, 576, "Mul"),
    ],
)
def test_rows_and_features_decide_for_products(
    bits: int, rows: int, features: int, op: str
) -> None:
    model = product(rows, features)
    reference = product(rows, features)
    apply(auto(bits), model)
    apply(QuantizeWeights(bits=WeightBits(bits), granularity=BLOCKS), reference)
    assert op in ops(model)
    assert ("MatMulNBits" in ops(model)) == (op == "MatMulNBits")
    assert ("DequantizeLinear" in ops(model)) == (op == "DequantizeLinear")
    x = {"x": normal(rows, features)}
    exact = outputs(reference, x)["y"]
    np.testing.assert_allclose(outputs(model, x)["y"], exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_two_products_become_packed_products(bits: int) -> None:
    text = """g (float[4, 256] x) => (float[4, 64] y, float[4, 64] z) {
      y = MatMul(x, w)  a = Neg(x)  z = MatMul(a, w) }"""
    model, reference = (model_of(text, w=normal(256, 64)) for _ in range(2))
    apply(auto(bits), model)
    apply(QuantizeWeights(bits=WeightBits(bits), granularity=BLOCKS), reference)
    assert sorted(ops(model)) == ["MatMulNBits", "MatMulNBits", "Neg"]
    assert sum(values.nbytes > 256 * 64 * bits // 9 for values in stored(model).values()) == 1
    feeds = {"x": normal(4, 256)}
    exact = outputs(reference, feeds)
    for name, value in Session(io.to_bytes(model)).run(feeds).items():
        near = 0.02 * np.abs(exact[name]).max()  # activations are rounded to 8 bits
        np.testing.assert_allclose(value, exact[name], atol=near)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_gemm_is_turned_so_that_it_is_fused(bits: int, symmetric: bool) -> None:
    text = "g (float[4, 256] x) => (float[4, 64] y) { [n] y = Gemm <transB = 1> (x, w, b) }"
    weights = {"w": normal(64, 256), "b": normal(64, seed=3)}
    model, reference = (model_of(text, **weights) for _ in range(2))
    settings = {"bits": WeightBits(bits), "symmetric": symmetric}
    for granularity in (BLOCKS, WeightGranularity.PER_CHANNEL):
        model, reference = (model_of(text, **weights) for _ in range(2))
        pass_ = QuantizeWeights(granularity=granularity, **settings)  # type: ignore[arg-type]
        apply(pass_, reference)
        apply(
            QuantizeWeights(granularity=granularity, form=AUTO, **settings),  # type: ignore[arg-type]
            model,
        )
        fused = bits in (4, 8)
        assert node(model, "n").int_attr("transB", 0) == (not fused)
        assert executed_ops(io.to_bytes(model)) == {"MatMulNBits" if fused else "Gemm": 1}
        x = {"x": normal(4, 256)}
        exact = outputs(reference, x)["y"]
        np.testing.assert_allclose(outputs(model, x)["y"], exact, rtol=1e-4, atol=1e-4)


UNFUSED: Mapping[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "Conv": ("Conv <group = 2> (x, w)", (2, 96, 9, 9), (32, 48, 3, 3)),
    "ConvTranspose": ("ConvTranspose(x, w)", (2, 48, 9, 9), (48, 32, 3, 3)),
    "scaled Gemm": ("Gemm <alpha = 0.5, transB = 1> (x, w)", (4, 72), (40, 72)),
    "many matrices": ("MatMul(x, w)", (2, 4, 72), (2, 72, 40)),
    "one matrix": ("MatMul(x, w)", (4, 72), (72, 42)),
}


@pytest.mark.parametrize("case", UNFUSED)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", list(WeightGranularity))
def test_weights_unpacked_at_load_are_those_of_dequantize_linear(
    case: str, bits: int, symmetric: bool, granularity: WeightGranularity
) -> None:
    call, sample, shape = UNFUSED[case]
    text = f"g (float{list(sample)} x) => (float y) {{ [n] y = {call} }}"
    w = normal(*shape) + np.float32(0.2)
    model, reference = (model_of(text, w=w) for _ in range(2))
    op = node(model, "n").op
    pass_ = QuantizeWeights(
        bits=WeightBits(bits),
        symmetric=symmetric,
        granularity=granularity,
        form=WeightForm.AT_LOAD if case == "one matrix" else AUTO,
    )
    report = apply(pass_, model)
    if case != "one matrix" or bits != 2:  # 42 columns: see `why_fused_wrongly`
        plain = QuantizeWeights(bits=pass_.bits, symmetric=symmetric, granularity=granularity)
        apply(plain, reference)
        expected = np.asarray(_weight(reference))
        np.testing.assert_array_equal(_weight(model), expected)
    assert "DequantizeLinear" not in ops(model)
    # A block of 32 may hold 24 weights, and costs a scale and a zero point.
    assert report.bytes_after <= math.prod(shape) * (bits / 8 + 6 / 24) + 600
    ran = executed_ops(io.to_bytes(model))
    assert ran.keys() <= {op, "ReorderInput", "ReorderOutput"}  # nothing is unpacked at a run
    assert not apply(pass_, model).modified


def _weight(model: Model) -> Array:
    """What the node `n` is given as its weight."""
    tensor = node(model, "n").inputs[1]
    producer = tensor.inputs[0]
    values: Array = RuntimeContext().evaluate(model, _before(model, producer.name))[tensor.name]
    return values


def _before(model: Model, name: str) -> list:  # type: ignore[type-arg]
    names = [each.name for each in model.graph.nodes]
    return list(model.graph.nodes)[: names.index(name) + 1]


@pytest.mark.parametrize("choice", [True, False])
def test_bodies_unpack_at_load_too(choice: bool) -> None:
    text = """g (float[2, 16, 9, 9] x, bool c) => (float y) {
      y = If (c) <
        then_branch = t () => (float r) { r = Conv(x, w) },
        else_branch = e () => (float s) { a = Neg(x)  s = Conv(a, w) }> }"""
    w = normal(32, 16, 3, 3)
    model, reference = (model_of(text, w=w) for _ in range(2))
    apply(auto(4), model)
    apply(QuantizeWeights(bits=WeightBits.FOUR, granularity=BLOCKS), reference)
    assert model.weight_bytes < w.nbytes / 4
    feeds = {"x": normal(2, 16, 9, 9), "c": np.array(choice)}
    expected = outputs(reference, feeds)["y"]
    np.testing.assert_allclose(outputs(model, feeds)["y"], expected, rtol=1e-4, atol=1e-4)
    ran = executed_ops(io.to_bytes(model))
    assert {"If", "Conv"} <= ran.keys() <= {"If", "Conv", "Neg", "ReorderInput", "ReorderOutput"}


def test_a_model_that_continues_from_a_past_is_fed_row_by_row() -> None:
    text = """g (float[B, S, 64] x, float[B, P, 64] past) => (float y, float[B, T, 64] z) {
      y = MatMul(x, w)  z = Concat <axis = 1> (past, x) }"""
    model = model_of(text, w=normal(64, 96))
    (matmul,) = (each for each in model.graph.nodes if each.op == "MatMul")
    for past, rows in ((0, 1), (3, 40)):
        feeds = {"x": normal(2, 40, 64), "past": normal(2, past, 64)}
        data = dataset_of(feeds, Session(io.to_bytes(model)).inputs)
        use = uses_of_weights(model, RuntimeContext(data))[matmul]
        assert (use.rows, use.shared) == (rows, False)


def test_overrides_may_ask_for_it_alone() -> None:
    text = "g (float[1, 16, 9, 9] x) => (float y) { [a] b = Conv(x, w)  [c] y = Conv(b, v) }"
    model = model_of(text, w=normal(32, 16, 3, 3), v=normal(32, 32, 3, 3, seed=1))
    pass_ = QuantizeWeights(overrides=(Override(QuantizeWeights(form=AUTO), nodes=("c",)),))
    apply(pass_, model)
    assert node(model, "a").inputs[1].inputs[0].op == "DequantizeLinear"
    assert node(model, "c").inputs[1].inputs[0].op == "Mul"


def test_gptq_takes_the_fastest_form_too() -> None:
    text = "g (float[8, 16, 9, 9] x) => (float y) { [n] y = Conv(x, w) }"
    model, reference = (model_of(text, w=normal(32, 16, 3, 3)) for _ in range(2))
    feeds = {"x": normal(8, 16, 9, 9)}
    for each, form in ((model, AUTO), (reference, WeightForm.DEQUANTIZE_LINEAR)):
        apply(GPTQ(form=form), each, data=feeds)
    np.testing.assert_array_equal(_weight(model), _weight(reference))
    assert executed_ops(io.to_bytes(model)).keys() <= {"Conv", "ReorderInput", "ReorderOutput"}


@pytest.mark.parametrize("subject", ["digits", "resnet20"], indirect=True)
def test_real_models_convert_nothing_at_a_run(subject: Path) -> None:
    inputs = Session(subject / "model.onnx").inputs
    context = RuntimeContext(load_dataset(str(subject / "test.npz"), inputs).take(range(4)))
    models = []
    for form in (AUTO, WeightForm.DEQUANTIZE_LINEAR):
        model = io.load(subject / "model.onnx")
        quantize = QuantizeWeights(
            bits=WeightBits.FOUR, symmetric=False, granularity=BLOCKS, form=form
        )
        PassManager([*CLEAN_UP, quantize]).run(model, context)
        models.append(model)
    automatic, plain = models
    assert "DequantizeLinear" not in executed_ops(io.to_bytes(automatic))
    assert executed_ops(io.to_bytes(plain))["DequantizeLinear"] > 1
    assert automatic.weight_bytes < 1.05 * plain.weight_bytes + 2000
    feeds = next(context.data.batches(4)).feeds if context.data else {}
    expected = outputs(plain, feeds)
    for name, value in outputs(automatic, feeds).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-4)
