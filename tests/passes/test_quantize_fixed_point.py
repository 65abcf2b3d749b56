from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import FoldBatchNorm, FoldConstants, QuantizeFixedPoint
from onnxcompress.passes.quantize_fixed_point import FixedPointTensors, FractionBits
from onnxcompress.quantization.fixed_point import (
    FixedPoint,
    convolution,
    format_for,
    product,
    rescale,
    to_integers,
    to_real,
)
from onnxcompress.quantization.observers import Range
from onnxcompress.recipe import Recipe
from onnxcompress.registry import options
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session, SessionSettings
from tests.helpers import node, ops, outputs

from .support import Array, apply, model_of, normal, opset, reasons

X = normal(24, 40)
IMAGES = normal(6, 3, 9, 8)
WEIGHTS = {
    "w1": normal(40, 32, seed=1) / 6,
    "b1": normal(32, seed=2),
    "w2": normal(10, 32, seed=3) / 5,
    "b2": normal(10, seed=4),
}
NET = """g (float[N, 40] x) => (float[N, 10] y) {
  [one] h = Gemm(x, w1, b1)  a = Relu(h)  [two] y = Gemm <transB = 1> (a, w2, b2) }"""
FILTERS = {
    "k1": normal(8, 3, 3, 3, seed=5) / 5,
    "c1": normal(8, seed=6),
    "k2": normal(8, 4, 3, 3, seed=7) / 6,
    "c2": normal(8, seed=8),
}
CNN = """g (float[N, 3, 9, 8] x) => (float[N, 8, 5, 4] y) {
  [one] h = Conv <pads = [1, 1, 1, 1]> (x, k1, c1)  a = Relu(h)
  [two] y = Conv <pads = [1, 1, 1, 1], strides = [2, 2], group = 2> (a, k2, c2) }"""


def _format(values: Array, word: int) -> FixedPoint:
    return format_for(Range(float(values.min()), float(values.max())), word)


def _formats(model: Model) -> dict[str, int]:
    """Fraction bits of every QuantizeLinear, by what writes its input."""
    found = {}
    for quantizer in model.graph.nodes:
        if quantizer.op == "QuantizeLinear":
            scale, zero_point = quantizer.inputs[1:]
            assert isinstance(scale, Constant) and isinstance(zero_point, Constant)
            bits = -int(np.log2(float(scale.values)))
            assert float(scale.values) == 2.0**-bits and not zero_point.values.any()
            found[quantizer.inputs[0].name] = bits
    return found


def _both_ways(model: Model, feeds: dict[str, Any]) -> list[Array]:
    """The output with onnxruntime's optimizations off and on."""
    raw = io.to_bytes(model)
    runs = [Session(raw, SessionSettings(optimize=on)).run(feeds) for on in (False, True)]
    return [next(iter(run.values())) for run in runs]


@pytest.mark.parametrize("word", [4, 5, 7, 8, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_gemm_equals_integer_arithmetic_bit_for_bit(word: int, seed: int) -> None:
    model = model_of(NET, **WEIGHTS)
    apply(QuantizeFixedPoint(word_length=word), model, data={"x": X})
    x = normal(50, 40, seed=seed) * 1.5  # beyond the calibration data: it saturates
    written = _formats(model)
    fx, fa = (FixedPoint(word, bits) for bits in written.values())
    fw1, fw2 = (_format(WEIGHTS[name], word) for name in ("w1", "w2"))

    def bias(name: str, fraction: int) -> Array:
        return np.rint(np.ldexp(WEIGHTS[name].astype(np.float64), fraction)).astype(np.int64)

    n1 = fx.fraction_bits + fw1.fraction_bits
    first = to_integers(x, fx)
    assert first.max() == fx.limits[1] and first.min() == fx.limits[0]
    sums = product(first, to_integers(WEIGHTS["w1"], fw1), bias("b1", n1))
    hidden = rescale(np.maximum(sums, 0), n1, fa)
    n2 = fa.fraction_bits + fw2.fraction_bits
    last = product(hidden, to_integers(WEIGHTS["w2"], fw2).T, bias("b2", n2))
    for got in _both_ways(model, {"x": x}):
        np.testing.assert_array_equal(got.astype(np.float64), to_real(last, n2))


@pytest.mark.parametrize("word", [4, 6, 8, 9])
def test_conv_equals_integer_arithmetic_bit_for_bit(word: int) -> None:
    model = model_of(CNN, **FILTERS)
    apply(QuantizeFixedPoint(word_length=word), model, data={"x": IMAGES})
    x = normal(4, 3, 9, 8, seed=3) * 1.5
    fx, fa, fy = (FixedPoint(word, bits) for bits in _formats(model).values())
    fk1, fk2 = (_format(FILTERS[name], word) for name in ("k1", "k2"))

    def bias(name: str, fraction: int) -> Array:
        return np.rint(np.ldexp(FILTERS[name].astype(np.float64), fraction)).astype(np.int64)

    n1 = fx.fraction_bits + fk1.fraction_bits
    k1, k2 = to_integers(FILTERS["k1"], fk1), to_integers(FILTERS["k2"], fk2)
    sums = convolution(to_integers(x, fx), k1, bias("c1", n1), pads=(1, 1, 1, 1))
    hidden = rescale(np.maximum(sums, 0), n1, fa)
    n2 = fa.fraction_bits + fk2.fraction_bits
    sums = convolution(hidden, k2, bias("c2", n2), pads=(1, 1, 1, 1), strides=(2, 2), groups=2)
    expected = to_real(rescale(sums, n2, fy), fy.fraction_bits)
    for got in _both_ways(model, {"x": x}):
        np.testing.assert_array_equal(got.astype(np.float64), expected)


def test_matmul_equals_integer_arithmetic_bit_for_bit() -> None:
    w = WEIGHTS["w1"]
    model = model_of("g (float[N, 40] x) => (float[N, 32] y) { y = MatMul(x, w) }", w=w)
    apply(QuantizeFixedPoint(), model, data={"x": X})
    (bits,) = _formats(model).values()
    fx, fw = FixedPoint(8, bits), _format(w, 8)
    sums = product(to_integers(X, fx), to_integers(w, fw))
    expected = to_real(sums, fx.fraction_bits + fw.fraction_bits)
    for got in _both_ways(model, {"x": X}):
        np.testing.assert_array_equal(got.astype(np.float64), expected)


def test_every_scale_is_a_power_of_two_and_ops_are_standard() -> None:
    model = model_of(NET, **WEIGHTS)
    report = apply(QuantizeFixedPoint(), model, data={"x": X})
    assert report.skips == ()
    assert Counter(ops(model)) == {
        "QuantizeLinear": 2,
        "DequantizeLinear": 2 + 2 + 2,  # activations, weights, biases
        "Gemm": 2,
        "Relu": 1,
    }
    scales = [found.inputs[1].values for found in model.graph.nodes if "Linear" in found.op]
    assert all(np.frexp(scale)[0] == 0.5 for scale in scales)


@pytest.mark.parametrize(("word", "version"), [(8, 13), (9, 21), (16, 21)])
def test_opsets(word: int, version: int) -> None:
    model = model_of(opset(9) + NET.replace("[N, 40]", "[24, 40]"), **WEIGHTS)
    before = outputs(model, {"x": X})["y"]
    apply(QuantizeFixedPoint(word_length=word), model, data={"x": X})
    assert model.opset == version
    gap = np.abs(outputs(model, {"x": X})["y"] - before).max()
    assert 0 < gap < 10 * np.abs(before).max() / 2**word


def test_given_fraction_bits_hold_for_every_tensor_and_saturate() -> None:
    model = model_of(NET, **WEIGHTS)
    apply(QuantizeFixedPoint(fraction_bits=6), model, data={"x": X})
    assert set(_formats(model).values()) == {6}
    w = node(model, "one").inputs[1].inputs[0].inputs[0]
    assert isinstance(w, Constant)
    np.testing.assert_array_equal(w.values, to_integers(WEIGHTS["w1"], FixedPoint(8, 6)))
    x = np.full((1, 40), 50, np.float32)
    limit = np.full((1, 40), 127 / 64, np.float32)
    np.testing.assert_array_equal(outputs(model, {"x": x})["y"], outputs(model, {"x": limit})["y"])


def test_a_large_bias_makes_the_weight_coarser_by_powers_of_two() -> None:
    small = {"w1": WEIGHTS["w1"] * np.float32(1e-7), "b1": WEIGHTS["b1"] * np.float32(3e4)}
    weights = {**WEIGHTS, **small}
    model = model_of(NET, **weights)
    before = outputs(model, {"x": X})["y"]
    apply(QuantizeFixedPoint(word_length=8), model, data={"x": X})
    dequantizer = node(model, "one").inputs[1].inputs[0]
    scale = dequantizer.inputs[1]
    assert isinstance(scale, Constant) and np.frexp(scale.values)[0] == 0.5
    assert scale.values > _format(weights["w1"], 8).scale
    assert np.abs(outputs(model, {"x": X})["y"] - before).max() < 0.05 * np.abs(before).max()


def test_weights_alone_need_no_data() -> None:
    model = model_of(NET, **WEIGHTS)
    pass_ = QuantizeFixedPoint(word_length=6, tensors=FixedPointTensors.WEIGHTS)
    report = apply(pass_, model)
    assert sorted(ops(model)) == ["DequantizeLinear"] * 2 + ["Gemm"] * 2 + ["Relu"]
    assert report.skips == ()
    formats = {name: _format(WEIGHTS[name], 6) for name in ("w1", "w2")}
    w1, w2 = (
        to_real(to_integers(WEIGHTS[name], fixed), fixed.fraction_bits)
        for name, fixed in formats.items()
    )
    hidden = np.maximum(X.astype(np.float64) @ w1 + WEIGHTS["b1"], 0)
    expected = hidden @ w2.T + WEIGHTS["b2"]
    np.testing.assert_allclose(outputs(model, {"x": X})["y"], expected, rtol=1e-5, atol=1e-5)


def test_a_shared_weight_is_stored_once_and_bodies_are_reached() -> None:
    model = model_of(
        """g (float[N, 40] x, bool c) => (float[N, 32] y, float[N, 32] z, float[N, 32] u) {
          a = Neg(x)  y = MatMul(x, w)  z = MatMul(a, w)
          u = If (c) <then_branch = t () => (float[N, 32] r) { r = MatMul(x, v) },
                      else_branch = e () => (float[N, 32] s) { s = Neg(y) }> }""",
        w=WEIGHTS["w1"],
        v=normal(40, 32, seed=9),
    )
    feeds = {"x": X, "c": np.array(True)}
    before = outputs(model, feeds)
    report = apply(QuantizeFixedPoint(tensors=FixedPointTensors.WEIGHTS), model)
    assert report.bytes_after < 0.3 * report.bytes_before
    for name, value in outputs(model, feeds).items():
        assert np.abs(value - before[name]).max() < 0.03 * np.abs(before[name]).max()


def test_products_in_bodies_cannot_be_calibrated() -> None:
    model = model_of(
        """g (float[N, 40] x) => (float[N, 32] y) {
          c = Cast <to = 9> (one)
          y = If (c) <then_branch = t () => (float[N, 32] r) { [in] r = MatMul(x, v) },
                      else_branch = e () => (float[N, 32] s) { [out] s = MatMul(x, v) }> }""",
        v=normal(40, 32, seed=9),
        one=np.array(1),
    )
    report = apply(QuantizeFixedPoint(), model, data={"x": X})
    assert not report.modified
    assert set(reasons(report)) == {"in", "out"}


def test_overrides_and_skips() -> None:
    v = normal(40, 32, seed=9)
    model = model_of(
        """g (float[N, 40] x) => (float[N, 32] y, float[N, 32] z, float[N, N] u) {
          [keep] y = MatMul(x, w)  [coarse] z = MatMul(x, v)
          t = Transpose(x)  [live] u = MatMul(x, t) }""",
        w=WEIGHTS["w1"],
        v=v,
    )
    coarse = QuantizeFixedPoint(word_length=4, tensors=FixedPointTensors.WEIGHTS)
    overrides = (Override(None, nodes=("keep",)), Override(coarse, nodes=("coarse",)))
    pass_ = QuantizeFixedPoint(tensors=FixedPointTensors.WEIGHTS, overrides=overrides)
    report = apply(pass_, model)
    assert reasons(report) == {
        "keep": EXCLUDED,
        "live": "its weight is not stored as float32 in the model",
    }
    stored = node(model, "coarse").inputs[1].inputs[0].inputs[0]
    assert isinstance(stored, Constant)
    np.testing.assert_array_equal(stored.values, to_integers(v, _format(v, 4)))


def test_int16_has_no_kernel_for_pooling() -> None:
    text = CNN.replace("a = Relu(h)", "[pool] a = MaxPool <kernel_shape = [1, 1]> (h)")
    model = model_of(text, **FILTERS)
    report = apply(QuantizeFixedPoint(word_length=12), model, data={"x": IMAGES})
    assert reasons(report) == {"pool": "onnxruntime has no kernel for it on 16-bit integers"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"word_length": 3}, "word_length takes 4 to 16, not 3"),
        ({"word_length": 17}, "word_length takes 4 to 16, not 17"),
        ({"fraction_bits": 61}, "fraction_bits takes at most 60, not 61"),
    ],
)
def test_options_out_of_range(given: dict[str, int], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        QuantizeFixedPoint(**given)  # type: ignore[arg-type]


def test_activations_need_data() -> None:
    with pytest.raises(PassError, match="calibration data"):
        PassManager([QuantizeFixedPoint()]).run(model_of(NET, **WEIGHTS))


@pytest.mark.parametrize(("text", "value"), [("6", 6), ('"auto"', FractionBits.AUTO)])
def test_fraction_bits_are_a_number_or_auto(text: str, value: object) -> None:
    recipe = Recipe.parse(f'[[pass]]\nname = "quantize-fixed-point"\nfraction_bits = {text}\n')
    (pass_,) = recipe.passes
    assert isinstance(pass_, QuantizeFixedPoint)
    assert pass_.fraction_bits == value
    assert Recipe.parse(recipe.dump()) == recipe
    assert options(QuantizeFixedPoint)["fraction_bits"].kind == "int | auto"
    with pytest.raises(RecipeError, match=r"takes int \| auto, not 'much'"):
        Recipe.parse('[[pass]]\nname = "quantize-fixed-point"\nfraction_bits = "much"\n')


def test_words_at_the_edge_of_what_float_adds_exactly() -> None:
    x, w = np.full((1, 1024), -1.0, np.float32), np.full((1024, 1), -1.0, np.float32)
    w[::2] = -127 / 128
    model = model_of("g (float[N, 1024] x) => (float[N, 1] y) { y = MatMul(x, w) }", w=w)
    apply(QuantizeFixedPoint(), model, data={"x": x})
    expected = product(to_integers(x, FixedPoint(8, 7)), to_integers(w, FixedPoint(8, 7)))
    assert expected.item() > 2**23
    for got in _both_ways(model, {"x": x}):
        np.testing.assert_array_equal(got.astype(np.float64), to_real(expected, 14))


def test_a_real_model_keeps_its_accuracy(subject: Path) -> None:
    original = Session(subject / "model.onnx")
    test = load_dataset(str(subject / "test.npz"), original.inputs).take(range(40))
    calibration = load_dataset(str(subject / "calibration.npz"), original.inputs)
    model = io.load(subject / "model.onnx")
    passes = [FoldConstants(), FoldBatchNorm(), QuantizeFixedPoint(word_length=12)]
    context = RuntimeContext(calibration.take(range(16)))
    assert PassManager(passes).run(model, context)[-1].modified
    compressed = Session(io.to_bytes(model))
    hits = np.zeros(2)
    for batch in test.batches(10):
        assert batch.labels is not None
        for index, session in enumerate((original, compressed)):
            answers = next(iter(session.run(batch.feeds).values())).argmax(axis=1)
            hits[index] += (answers == batch.labels).sum()
    assert hits[0] - hits[1] <= 2
