import numpy as np
import pytest

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.sort import sort
from onnxcompress.qdq.insert import dequantized, quantized, stored_dequantized
from onnxcompress.qdq.table import quantize_table, why_no_table
from onnxcompress.quantization.granularity import PER_TENSOR, Granularity, PerBlock, PerChannel
from onnxcompress.quantization.observers import Range
from onnxcompress.quantization.qparams import (
    activation_qparams,
    dequantize,
    quantize,
    symmetric_qparams,
)
from tests.helpers import node, ops, parse, run

W = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def _with_weight() -> Model:
    model = parse("g (float[N, 4] x) => (float[N, 6] y) { [n] y = MatMul(x, w) }")
    weight = Constant("w", W)
    one = node(model, "n")
    one.inputs[1] = weight
    return model


@pytest.mark.parametrize("granularity", [PER_TENSOR, PerChannel(0), PerChannel(1), PerBlock(1, 3)])
def test_a_stored_weight_comes_back_as_its_levels(granularity: Granularity) -> None:
    model = _with_weight()
    edit, matmul = Editor(model), node(model, "n")
    weight = matmul.inputs[1]
    assert isinstance(weight, Constant)
    qparams = symmetric_qparams(W, granularity)
    edit.set_input(matmul, 1, stored_dequantized(edit, weight, W, qparams, matmul))
    edit.finish()
    sort(model.graph)
    expected = dequantize(quantize(W, qparams), qparams)
    np.testing.assert_allclose(
        run(model, x=np.eye(4, dtype=np.float32)), expected, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("share", [True, False])
def test_readers_share_the_integers_only_if_told_to(share: bool) -> None:
    model = _with_weight()
    edit, matmul = Editor(model), node(model, "n")
    weight = matmul.inputs[1]
    assert isinstance(weight, Constant)
    qparams = symmetric_qparams(W, PER_TENSOR)
    one, two = (stored_dequantized(edit, weight, W, qparams, matmul, share=share) for _ in range(2))
    same = [a is b for a, b in zip(one.inputs[0].inputs, two.inputs[0].inputs, strict=True)]
    assert same == [share] * 3


def test_integers_are_stored_as_they_are_and_int32_needs_no_zero_point() -> None:
    model = _with_weight()
    edit, matmul = Editor(model), node(model, "n")
    levels = np.arange(24, dtype=np.int32).reshape(4, 6)
    qparams = symmetric_qparams(W, PER_TENSOR)
    qparams = type(qparams)(np.asarray(np.float32(0.5)), np.zeros((), np.int32))
    weight = Constant("w", W)
    edit.set_input(matmul, 1, stored_dequantized(edit, weight, levels, qparams, matmul))
    edit.finish()
    sort(model.graph)
    np.testing.assert_array_equal(run(model, x=np.eye(4, dtype=np.float32)), levels / 2)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_an_activation_goes_through_its_levels(kind: str) -> None:
    model = parse("g (float[N] x) => (float[N] y) { [n] y = Neg(x) }")
    edit, neg = Editor(model), node(model, "n")
    qparams = activation_qparams(Range(-1.0, 2.0), np.dtype(kind))
    levels = quantized(edit, neg.inputs[0], qparams, neg)
    assert levels.dtype == np.dtype(kind)
    real = dequantized(edit, levels, qparams, neg, "real")
    edit.set_input(neg, 0, real)
    edit.finish()
    sort(model.graph)
    assert ops(model) == ["QuantizeLinear", "DequantizeLinear", "Neg"]
    x = np.linspace(-2, 3, 101, dtype=np.float32)
    np.testing.assert_array_equal(run(model, x=x), -dequantize(quantize(x, qparams), qparams))


def test_tables() -> None:
    model = parse("g (int64[N] i) => (float[N, 6] y) { [n] y = Gather <axis = -2> (t, i) }")
    edit, gather, table = Editor(model), node(model, "n"), Constant("t", W)
    gather.inputs[0] = table
    assert why_no_table(gather, table) is None
    quantize_table(edit, gather, table)
    edit.finish()
    qparams = symmetric_qparams(W, PerChannel(0))
    expected = dequantize(quantize(W, qparams), qparams)
    np.testing.assert_array_equal(run(model, i=np.array([3, 0, -1])), expected[[3, 0, 3]])


def test_what_is_no_table() -> None:
    model = parse("""g (int64[N] i, float[4, 6] t) => (float[4, N] y) {
      [n] y = Gather <axis = 1> (t, i) }""")
    gather = node(model, "n")
    assert why_no_table(gather, Constant("t", W)) == "does not read rows of a matrix"
    rows = node(parse("g (int64 i, float[4, 6] t) => (float[6] y) { [n] y = Gather(t, i) }"), "n")
    assert why_no_table(rows, Constant("t", W[0])) == "does not read rows of a matrix"
    told = why_no_table(rows, Constant("t", W.astype("f2")))
    assert told == "its table is float16, not float32; use-float32 before this pass changes that"
    broken = np.where(W > 1, np.inf, W).astype(np.float32)
    assert why_no_table(rows, Constant("t", broken)) == "its table holds NaN or infinite values"
