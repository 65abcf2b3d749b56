import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.subjects.__main__ import default_cache
from benchmarks.subjects.verification import equal_error_rate
from onnxcompress.ir import io, query
from onnxcompress.ir.model import Model
from onnxcompress.measure.macs import cost_by_op
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeDynamic, QuantizeWeights
from onnxcompress.qdq.recurrent import has_bounded_input
from onnxcompress.quantization.saturation import PAIR_LIMIT, pair_sums
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.runtime.session import Session
from onnxcompress.target import Target
from tests.helpers import ops, outputs, parse
from tests.passes.support import Array, apply, model_of, normal, reasons, sqnr, stored

STEPS, INPUTS, UNITS = 6, 5, 8
X = normal(STEPS, 3, INPUTS)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def rounded(weight: Array, bits: int) -> Array:
    """One scale for each row of each direction, in float32 as the model computes it."""
    levels = 2 ** (bits - 1) - 1
    scale = (np.abs(weight).max(axis=2, keepdims=True) / levels).astype(np.float32)
    values: Array = np.rint(weight / scale).astype(np.float32) * scale
    return values


def layers(op: str, direction: str = "forward") -> tuple[str, dict[str, Array]]:
    """Two recurrent nodes, the second of which reads the states of the first."""
    ways = 2 if direction == "bidirectional" else 1
    rows = GATES[op] * UNITS
    weights = {
        "w1": normal(ways, rows, INPUTS, seed=1),
        "r1": normal(ways, rows, UNITS, seed=2) / 3,
        "w2": normal(ways, rows, ways * UNITS, seed=3),
        "r2": normal(ways, rows, UNITS, seed=4) / 3,
        "b": normal(ways, 2 * rows, seed=5),
        "shape": np.array([0, 0, -1]),
    }
    options = f'<hidden_size = {UNITS}, direction = "{direction}">'
    text = f"""g (float[T, N, {INPUTS}] x) => (float[T, D, N, {UNITS}] y, float[D, N, {UNITS}] h) {{
      [first] s = {op} {options} (x, w1, r1, b)
      t = Transpose <perm = [0, 2, 1, 3]> (s)
      u = Reshape (t, shape)
      [second] y, h = {op} {options} (u, w2, r2, b) }}"""
    return text, weights


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_weights_become_integers_with_a_scale_for_each_row(op: str, direction: str) -> None:
    text, weights = layers(op, direction)
    model = model_of(text, **weights)
    report = apply(QuantizeWeights(min_elements=1), model)
    assert report.skips == ()
    of = stored(model)
    assert of["w1_quantized"].dtype == np.int16  # a graph input has no bound
    assert {of[f"{name}_quantized"].dtype for name in ("r1", "w2", "r2")} == {np.dtype(np.int8)}
    widths = {"w1": 16, "r1": 8, "w2": 8, "r2": 8}
    expected = model_of(
        text, **{**weights, **{k: rounded(weights[k], bits) for k, bits in widths.items()}}
    )
    after = outputs(model, {"x": X})
    for name, value in outputs(expected, {"x": X}).items():
        np.testing.assert_array_equal(after[name], value)


def test_onnxruntime_restores_weights_when_it_loads() -> None:
    text, weights = layers("LSTM")
    model = model_of(text, **weights)
    before = executed_ops(io.to_bytes(model))
    apply(QuantizeWeights(min_elements=1), model)
    assert executed_ops(io.to_bytes(model)) == before


def test_bits_below_8_count_as_8_and_16_as_16() -> None:
    for bits, dtype in ((4, np.int8), (16, np.int16)):
        text, weights = layers("GRU")
        model = model_of(text, **weights)
        apply(QuantizeWeights(bits=bits, min_elements=1), model)
        assert stored(model)["r2_quantized"].dtype == dtype


@pytest.mark.parametrize(
    ("read", "bounded"),
    [
        ("Tanh(x)", True),
        ("Softmax(x)", True),
        ("Gather(table, i)", True),
        ("Add(gates, squashed)", True),
        ("Add(gates, x)", False),
        ("Concat <axis = 2> (gates, squashed)", True),
        ("Concat <axis = 2> (gates, x)", False),
        ("Slice(gates, one, two, two)", True),
        ("Slice(x, one, two, two)", False),
        ("Relu(x)", False),
        ("MatMul(gates, m)", False),
        ("Identity(x)", False),
        ("Identity(free)", False),
    ],
)
def test_what_bounds_an_input(read: str, bounded: bool) -> None:
    model = parse(
        f"""g (float[T, N, 4] x, int64[T, N] i) => (y) <
          float[2, 4] table = {{1, 2, 3, 4, 5, 6, 7, 8}},
          int64[1] one = {{0}}, int64[1] two = {{2}},
          float[1, 16, 4] w, float[1, 16, 4] r, float[1, 4, 4] rw, float[1, 4, 4] rr,
          float[4, 4] m> {{
          states = LSTM <hidden_size = 4> (x, w, r)
          axis = Constant <value_ints = [1]> ()
          gates = Squeeze(states, axis)
          unbound = RNN <hidden_size = 4, activations = ["Relu"]> (x, rw, rr)
          free = Squeeze(unbound, axis)
          squashed = Sigmoid(x)
          read = {read}
          [n] y = LSTM <hidden_size = 4> (read, w, r) }}"""
    )
    (last,) = (node for node in query.nodes(model, {"LSTM"}) if node.name == "n")
    assert has_bounded_input(last) is bounded


def test_an_lstm_that_reads_states_runs_on_integers() -> None:
    text, weights = layers("LSTM", "bidirectional")
    model = model_of(text, **weights)
    before = outputs(model, {"x": X})
    report = apply(QuantizeDynamic(min_elements=1), model)
    assert [op for op in ops(model) if op.endswith("LSTM")] == ["LSTM", "DynamicQuantizeLSTM"]
    assert reasons(report)["first"].startswith("nothing bounds 'x': rounding it to 8 bits can ruin")
    after = outputs(model, {"x": X})
    assert sqnr(before["y"], after["y"]) > 35
    assert sqnr(before["h"], after["h"]) > 35


def test_an_integer_lstm_counts_as_many_products() -> None:
    text, weights = layers("LSTM")
    model = model_of(text, **weights)
    context = RuntimeContext()
    before = sum(row.macs for row in cost_by_op(model, context.types(model)))
    PassManager([QuantizeDynamic(min_elements=1)]).run(model, context)
    by_op = {row.op: row.macs for row in cost_by_op(model, context.types(model))}
    assert by_op["com.microsoft.DynamicQuantizeLSTM"] > 0
    assert sum(by_op.values()) == before > 0


@pytest.mark.parametrize("op", ["GRU", "RNN"])
def test_what_has_no_integer_kernel_is_told(op: str) -> None:
    text, weights = layers(op)
    model = model_of(text, **weights)
    told = reasons(apply(QuantizeDynamic(min_elements=1), model))
    expected = f"onnxruntime has no integer {op}; only its weights are stored as integers"
    assert told == {"first": expected, "second": expected}


def test_one_step_equals_integer_arithmetic() -> None:
    """Input and state are multiples of 1/255 from 0 to 1, so the kernel rounds neither."""
    level = np.random.default_rng(0).integers(0, 256, (2, 3, UNITS))
    level[:, 0, :2] = 0, 255
    x, state = (level / 255).astype(np.float32)
    rows = 4 * UNITS
    w, r = normal(1, rows, UNITS, seed=1), normal(1, rows, UNITS, seed=2)
    w[0, ::3] *= 100  # rows of their own scale
    cell = np.zeros((1, 3, UNITS), np.float32)
    model = model_of(
        f"""g (int64[N] i, float[1, N, {UNITS}] h) => (float[1, 1, N, {UNITS}] y,
          float[1, N, {UNITS}] yh, float[1, N, {UNITS}] yc) {{
          rows = Gather(table, i)  x = Unsqueeze(rows, axis)
          y, yh, yc = LSTM <hidden_size = {UNITS}> (x, w, r, , , h, cell) }}""",
        table=x,
        axis=np.array([0]),
        w=w,
        r=r,
        cell=cell,
    )
    apply(QuantizeDynamic(min_elements=1, embeddings=False), model)
    assert "DynamicQuantizeLSTM" in ops(model)
    found = outputs(model, {"i": np.arange(3), "h": state[None]})
    gates = (
        x.astype(np.float64) @ rounded(w, 8)[0].T + state.astype(np.float64) @ rounded(r, 8)[0].T
    )
    i, o, _, c = np.split(gates, 4, axis=1)  # nothing to forget: the cell starts at zero
    cells = np.tanh(c) / (1 + np.exp(-i))
    states = np.tanh(cells) / (1 + np.exp(-o))
    np.testing.assert_allclose(found["yc"][0], cells, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["yh"][0], states, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["y"][0], found["yh"])


@pytest.mark.parametrize(
    "pass_", [QuantizeWeights(min_elements=1), QuantizeDynamic(min_elements=1)]
)
def test_in_a_body(pass_: QuantizeWeights | QuantizeDynamic) -> None:
    model = model_of(
        """g (float[6, 3, 8] x, bool c) => (float[6, 1, 3, 8] y) { y = If (c) <
          then_branch = a () => (float[6, 1, 3, 8] u) {
            t = Tanh(x)  [bounded] u = LSTM <hidden_size = 8> (t, w, r) },
          else_branch = b () => (float[6, 1, 3, 8] v) {
            [free] v = LSTM <hidden_size = 8> (x, w, r) }> }""",
        w=normal(1, 32, 8, seed=1),
        r=normal(1, 32, 8, seed=2) / 3,
    )
    feeds = [{"x": normal(6, 3, 8), "c": np.array(chosen)} for chosen in (True, False)]
    before = [outputs(model, feed)["y"] for feed in feeds]
    assert "bounded" not in reasons(apply(pass_, model))
    session = Session(io.to_bytes(model))
    for feed, expected in zip(feeds, before, strict=True):
        assert sqnr(expected, session.run(feed)["y"]) > 35


def test_without_vnni_no_pair_of_products_saturates() -> None:
    text, weights = layers("LSTM")
    model = model_of(text, **weights)
    apply(QuantizeDynamic(min_elements=1), model, target=Target.X86_AVX2)
    for name in ("w2", "r2"):
        sums = pair_sums(stored(model)[f"{name}_quantized"][0].T)
        assert PAIR_LIMIT - 2 <= sums.max() <= PAIR_LIMIT


def test_a_weight_that_is_computed_is_left_alone() -> None:
    model = parse(
        """g (float[T, N, 3] x, float[1, 4, 3] w) => (y) <float[1, 4, 4] r> {
          [n] y = RNN <hidden_size = 4> (x, w, r) }"""
    )
    told = reasons(apply(QuantizeWeights(min_elements=1), model))
    assert told == {"n": "its weights are not stored in the model"}


def _embeddings(model: Path | bytes, mels: Array) -> Array:
    session = Session(model)
    return np.concatenate([session.run({"mels": part})["embedding"] for part in np.split(mels, 8)])


@pytest.mark.slow
@pytest.mark.parametrize("pass_", [QuantizeWeights(), QuantizeDynamic()])
def test_speaker_encoder_keeps_its_error_rate(pass_: QuantizeWeights | QuantizeDynamic) -> None:
    folder = default_cache(os.environ) / "speaker-encoder"
    if not folder.is_dir():
        pytest.skip("not fetched: python -m benchmarks.subjects fetch speaker-encoder")
    with np.load(folder / "test.npz") as arrays:
        rows = np.linspace(0, len(arrays["labels"]) - 1, 400).astype(int)
        mels, speakers = arrays["mels"][rows], arrays["labels"][rows]
    path = folder / "model.onnx"
    model: Model = io.load(path)
    PassManager([pass_]).run(model, RuntimeContext())
    raw = io.to_bytes(model)
    assert len(raw) < 0.27 * path.stat().st_size
    before = equal_error_rate(_embeddings(path, mels), speakers)
    after = equal_error_rate(_embeddings(raw, mels), speakers)
    assert 0.02 < before < 0.08
    assert after - before < 0.005
