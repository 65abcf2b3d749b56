"""Forms of stored weights by the onnxruntime that must load them, and the opset that each needs."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Override, Pass
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.passes import ConvertFloat, FoldConstants, QuantizeFixedPoint, QuantizeWeights
from onnxcompress.passes.convert_float import SmallFloat
from onnxcompress.qdq.integer_weights import WeightBits, WeightGranularity
from onnxcompress.qdq.weight_forms import WeightForm
from onnxcompress.releases import NEWEST, Release, last_opset, oldest_release
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import ops, outputs
from tests.passes.support import model_of, normal, opset

BLOCKS, CHANNELS = WeightGranularity.PER_BLOCK, WeightGranularity.PER_CHANNEL
DEQUANTIZED, NBITS, AT_LOAD, AUTO = (
    WeightForm.DEQUANTIZE_LINEAR,
    WeightForm.MATMUL_NBITS,
    WeightForm.AT_LOAD,
    WeightForm.AUTO,
)


def product(version: int = 13) -> Model:
    """One row times a large weight, for which packed weights are the fastest."""
    text = "g (float[1, 576] x) => (float[1, 64] y) { [n] y = MatMul(x, w) }"
    return model_of(opset(version) + text, w=normal(576, 64))


def quantized(bits: int, form: WeightForm, granularity: WeightGranularity = BLOCKS) -> Pass:
    return QuantizeWeights(bits=WeightBits(bits), form=form, granularity=granularity)


def run(pass_: Pass, model: Model, release: str | None = None) -> Model:
    asked = Release.parse(release) if release else None
    PassManager([pass_]).run(model, RuntimeContext(release=asked))
    return model


@pytest.mark.parametrize(
    ("bits", "form", "release", "op"),
    [
        (4, DEQUANTIZED, "1.16", "Mul"),
        (4, DEQUANTIZED, "1.18", "Mul"),
        (4, DEQUANTIZED, "1.19", "DequantizeLinear"),
        (2, DEQUANTIZED, "1.23", "Mul"),
        (8, DEQUANTIZED, "1.18", "Mul"),  # in blocks
        (16, DEQUANTIZED, "1.17", "Mul"),
        (4, NBITS, "1.16", "Mul"),
        (4, NBITS, "1.17", "MatMulNBits"),
        (8, NBITS, "1.21", "Mul"),
        (8, NBITS, "1.22", "MatMulNBits"),
        (4, AUTO, "1.16", "Mul"),
        (4, AUTO, "1.17", "MatMulNBits"),
        (8, AUTO, "1.20", "Mul"),
        (8, AUTO, "1.22", "MatMulNBits"),
        (4, AUTO, "1.25", "DequantizeLinear"),
    ],
)
def test_a_release_is_given_a_form_that_it_knows(
    bits: int, form: WeightForm, release: str, op: str
) -> None:
    asked = Release.parse(release)
    model = run(quantized(bits, form), product(), release)
    assert [each for each in ops(model) if each in ("DequantizeLinear", "MatMulNBits")] == (
        [] if op == "Mul" else [op]
    )
    assert oldest_release(model) <= asked
    assert model.opset <= last_opset(asked)
    reference = run(quantized(bits, AT_LOAD), product())
    feeds = {"x": normal(1, 576)}
    # MatMulNBits of 8 bits rounds what it reads to 8 bits.
    tolerance = 2e-1 if (bits, op) == (8, "MatMulNBits") else 1e-4
    exact = outputs(reference, feeds)["y"]
    np.testing.assert_allclose(outputs(model, feeds)["y"], exact, rtol=1e-4, atol=tolerance)


def test_8_bits_a_channel_stay_as_every_release_knows_them() -> None:
    free, asked = (
        run(quantized(8, DEQUANTIZED, CHANNELS), product(), each) for each in (None, "1.15")
    )
    assert io.to_bytes(free) == io.to_bytes(asked)
    assert str(oldest_release(free)) == "1.15"


def test_overrides_are_kept_to_the_release_too() -> None:
    text = "g (float[1, 576] x) => (float[1, 64] y) { [a] b = MatMul(x, w)  [c] y = MatMul(b, v) }"
    model = model_of(opset(13) + text, w=normal(576, 64), v=normal(64, 64))
    here = Override(quantized(4, DEQUANTIZED), nodes=("c",))
    run(QuantizeWeights(overrides=(here,)), model, "1.16")
    assert str(oldest_release(model)) == "1.15"
    assert ops(model).count("DequantizeLinear") == 1


@pytest.mark.parametrize(
    ("pass_", "needed"),
    [
        (quantized(4, NBITS), 13),
        (quantized(4, AT_LOAD), 13),
        (quantized(2, AUTO), 25),
        (quantized(8, DEQUANTIZED, CHANNELS), 13),
        (quantized(8, DEQUANTIZED), 21),
        (quantized(16, AUTO), 13),
    ],
)
def test_no_opset_is_raised_further_than_what_is_written(pass_: Pass, needed: int) -> None:
    assert run(pass_, product()).opset == needed


def test_no_opset_is_raised_for_tables() -> None:
    text = "g (int64[3] i) => (float[3, 64] y) { y = Gather(t, i) }"
    model = run(quantized(4, DEQUANTIZED), model_of(opset(9) + text, t=normal(40, 64)))
    assert "DequantizeLinear" not in ops(model) and "Mul" in ops(model)
    assert model.opset == 9
    assert str(oldest_release(model)) == "1.15"


def test_views_of_weights_count_as_weights() -> None:
    text = """g (float[1, 576] x) => (float[1, 64] y) {
      t = Transpose <perm = [1, 0]> (w)  y = MatMul(x, t) }"""
    model = model_of(opset(13) + text, w=normal(64, 576))
    assert run(quantized(4, DEQUANTIZED), model).opset == 21


@pytest.mark.parametrize(
    ("pass_", "release", "told"),
    [
        (QuantizeFixedPoint(word_length=12), "1.16", "opset 21, and onnxruntime 1.16 .* up to 19"),
        (
            ConvertFloat(dtype=SmallFloat.FLOAT8_E4M3FN, min_elements=1),
            "1.15",
            r"onnxruntime 1.15 does not load the result: a float of 8 bits .* needs .* 1.16",
        ),
    ],
)
def test_what_has_no_older_form_is_refused(pass_: Pass, release: str, told: str) -> None:
    model = product()
    before = io.to_bytes(clone(model))
    with pytest.raises(PassError, match=told):
        run(pass_, model, release)
    assert io.to_bytes(model) == before


def test_a_refused_pass_may_be_left_out() -> None:
    passes = [QuantizeFixedPoint(word_length=12), FoldConstants()]
    manager = PassManager(passes, on_error=OnError.SKIP)
    first, second = manager.run(product(), RuntimeContext(release=Release(1, 16)))
    assert first.error is not None and second.error is None


def test_the_newest_changes_nothing() -> None:
    for form in (DEQUANTIZED, NBITS, AUTO):
        free, asked = (run(quantized(4, form), product(), each) for each in (None, str(NEWEST)))
        assert io.to_bytes(free) == io.to_bytes(asked)
