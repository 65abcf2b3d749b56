import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.qdq.range_choice import least_output_error
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.quantization.qparams import activation_qparams, dequantize, quantize
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import node, tensor
from tests.passes.support import Array, model_of, normal

UINT8 = np.dtype(np.uint8)
CHOICES = [each for each in Observer if each is not Observer.OUTPUT_ERROR]

ROWS = normal(4000, 8)
ROWS[::40, 7] *= 40  # a channel of outliers


def _model(weight: Array) -> Model:
    text = "g (float[N, 8] x) => (float[N, 5] y) { [product] y = MatMul(x, w)  z = Neg(x) }"
    return model_of(text, w=weight.astype(np.float32))


def _context(model: Model) -> RuntimeContext:
    return RuntimeContext(dataset_of({"x": ROWS}, Session(io.to_bytes(model)).inputs))


def _chosen(model: Model, context: RuntimeContext) -> Range:
    readers = {tensor(model, "x"): [node(model, "product")]}
    return least_output_error(model, readers, UINT8, context)["x"]


def _output_error(weight: Array, tried: Range) -> float:
    qparams = activation_qparams(tried, UINT8)
    lost = dequantize(quantize(ROWS, qparams), qparams).astype(np.float64) - ROWS
    return float(np.square(lost @ weight.astype(np.float64)).sum())


@pytest.mark.parametrize("outlier_weight", [0.0, 0.01, 0.1, 1.0, 30.0])
def test_it_is_the_range_of_least_output_error(outlier_weight: float) -> None:
    weight = normal(8, 5, seed=1)
    weight[7] *= outlier_weight
    model = _model(weight)
    context = _context(model)
    ranges = [context.ranges(model, ["x"], observer)["x"] for observer in CHOICES]
    errors = [_output_error(weight, each) for each in ranges]
    assert _chosen(model, context) == ranges[int(np.argmin(errors))]


def test_outliers_that_no_weight_reads_are_cut() -> None:
    weight = normal(8, 5, seed=1)
    weight[7] = 0
    model = _model(weight)
    context = _context(model)
    chosen = _chosen(model, context)
    kept = context.ranges(model, ["x"], Observer.MSE)["x"]
    assert chosen.high < kept.high / 2
    assert _output_error(weight, chosen) < _output_error(weight, kept) / 4


def test_what_adds_up_over_the_positions_of_a_sample_counts_for_more() -> None:
    """A rare outlier that is worth cutting where rows stand alone is not where they are summed."""
    rows = normal(16000, 8)
    rows[::1600] = 2 * np.abs(rows[::1600]) + 2
    weight = np.abs(normal(8, 5, seed=1))
    chosen = {}
    for positions in (1, 200):
        model = model_of(
            "g (float[N, T, 8] x) => (float[N, T, 5] y) { [product] y = MatMul(x, w) }", w=weight
        )
        feeds = {"x": rows.reshape(-1, positions, 8)}
        context = RuntimeContext(dataset_of(feeds, Session(io.to_bytes(model)).inputs))
        chosen[positions] = _chosen(model, context).high
    assert chosen[200] == pytest.approx(rows.max(), rel=1e-3)
    assert chosen[1] < 0.95 * chosen[200]


def test_without_readers_the_tensor_itself_decides() -> None:
    model = _model(normal(8, 5))
    context = _context(model)
    chosen = least_output_error(model, {tensor(model, "x"): []}, UINT8, context)
    assert chosen == context.ranges(model, ["x"], Observer.MSE)
