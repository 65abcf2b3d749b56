from pathlib import Path

import numpy as np
import pytest

from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Override
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeTiedTable, QuantizeWeights
from tests.helpers import outputs
from tests.passes.support import apply, model_of, normal, reasons, stored

TABLE = normal(40, 64)
IDS = np.array([[3, 0, 39], [-1, 7, 3]], np.int64)
TWICE = """g (int64[b, s] ids) => (float[b, s, 64] rows, float[b, s, 40] logits) {
  rows = Gather(table, ids)
  scores = MatMul(rows, weight)
  logits = Identity(scores)
}"""
ONCE = TWICE.replace(
    "scores = MatMul(rows, weight)",
    "weight = Transpose<perm = [1, 0]>(table) scores = MatMul(rows, weight)",
)


def _twice() -> Model:
    return model_of(TWICE, table=TABLE, weight=np.ascontiguousarray(TABLE.T))


def _once() -> Model:
    return model_of(ONCE, table=TABLE)


def _dequantized(block: int) -> np.ndarray:
    """By hand: 127 levels on either side, a scale for each block of a row."""
    blocks = TABLE.reshape(40, -1, block).astype(np.float64)
    scale = np.abs(blocks).max(axis=-1, keepdims=True) / 127
    return (np.round(blocks / scale) * scale).reshape(40, 64)


@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("make", [_twice, _once])
def test_both_ends_read_one_table(make: object, block: int) -> None:
    assert callable(make)
    model = make()
    apply(QuantizeTiedTable(block_size=block), model)
    large = {name: values.shape for name, values in stored(model).items() if values.size > 64}
    assert sorted(large.values()) == [(40, 64 // block), (40, 64 // block, block)]
    found = outputs(model, {"ids": IDS})
    table = _dequantized(block)
    np.testing.assert_allclose(found["rows"], table[IDS], rtol=1e-5, atol=1e-6)
    wanted = found["rows"].astype(np.float64) @ table.T
    # onnxruntime rounds what the products are fed to 8 bits.
    np.testing.assert_allclose(found["logits"], wanted, atol=0.01 * np.abs(wanted).max())


def test_quantize_weights_leaves_the_scales_alone() -> None:
    model = _twice()
    PassManager([QuantizeTiedTable(block_size=16), QuantizeWeights(min_elements=1)]).run(model)
    again = _twice()
    PassManager([QuantizeTiedTable(block_size=16)]).run(again)
    assert stored(model).keys() == stored(again).keys()


def test_lookups_of_any_rank() -> None:
    text = TWICE.replace("int64[b, s] ids", "int64 ids").replace("[b, s, ", "[")
    model = model_of(text, table=TABLE, weight=np.ascontiguousarray(TABLE.T))
    apply(QuantizeTiedTable(), model)
    found = outputs(model, {"ids": np.array(5)})
    np.testing.assert_allclose(found["rows"], _dequantized(32)[5], rtol=1e-5, atol=1e-6)


def test_what_is_not_tied_is_told() -> None:
    model = model_of(TWICE, table=TABLE, weight=np.ascontiguousarray(TABLE.T) + 1)
    report = apply(QuantizeTiedTable(), model)
    assert not report.modified
    assert set(reasons(report).values()) == {"no product reads the same table, transposed"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (QuantizeTiedTable(min_elements=9999), "2560 elements < min_elements=9999"),
        (QuantizeTiedTable(block_size=128), "its rows of 64 do not divide into blocks of 128"),
        (QuantizeTiedTable(block_size=24), "MatMulNBits wants block_size a power of two from 16"),
    ],
)
def test_tables_that_stay(options: QuantizeTiedTable, reason: str) -> None:
    report = apply(options, _twice())
    assert not report.modified
    assert any(reason in told for told in reasons(report).values())


@pytest.mark.parametrize("op", ["Gather", "MatMul"])
def test_an_override_keeps_both_ends_float(op: str) -> None:
    report = apply(QuantizeTiedTable(overrides=(Override(None, op_types=(op,)),)), _twice())
    assert not report.modified
    assert report.skips


def test_a_decoder(tiny_decoder: Path) -> None:
    model = io.load(tiny_decoder / "model.onnx")
    with np.load(tiny_decoder / "data.npz") as arrays:
        feeds = {name: arrays[name][:2] for name in arrays if name != "labels"}
    before = outputs(model, feeds)
    apply(QuantizeTiedTable(), model)
    after = outputs(model, feeds)
    tables = [values for values in stored(model).values() if values.shape[:1] == (40,)]
    assert sorted(values.dtype.name for values in tables) == ["float32", "uint8"]
    spread = np.abs(before["logits"]).max()
    np.testing.assert_allclose(after["logits"], before["logits"], atol=0.03 * spread)
    assert not np.array_equal(after["logits"], before["logits"])


@pytest.mark.parametrize("second_first", [True, False])
def test_a_second_table_that_is_not_tied_stays(second_first: bool) -> None:
    """GPT-2's positions."""
    lookups = ["words = Gather(table, ids)", "[at] places = Gather(positions, ids)"]
    lookups = lookups[::-1] if second_first else lookups
    text = f"""g (int64[b, s] ids) => (float[b, s, 40] logits) {{ {"  ".join(lookups)}
      rows = Add(words, places)  weight = Transpose <perm = [1, 0]> (table)
      logits = MatMul(rows, weight) }}"""
    positions = normal(40, 64, seed=5)
    model = model_of(text, table=TABLE, positions=positions)
    before = outputs(model, {"ids": IDS})
    report = apply(QuantizeTiedTable(), model)
    assert reasons(report)["at"] == "no product reads the same table, transposed"
    kept = {name: values for name, values in stored(model).items() if values.shape == (40, 64)}
    assert list(kept) == ["positions"]
    np.testing.assert_array_equal(kept["positions"], positions)
    spread = np.abs(before["logits"]).max()
    np.testing.assert_allclose(
        outputs(model, {"ids": IDS})["logits"], before["logits"], atol=0.03 * spread
    )


def test_two_tied_tables() -> None:
    text = """g (int64[b, s] ids) => (float[b, s, 40] y, float[b, s, 40] z) {
      a = Gather(table, ids)  at = Transpose <perm = [1, 0]> (table)  y = MatMul(a, at)
      b = Gather(other, ids)  bt = Transpose <perm = [1, 0]> (other)  z = MatMul(b, bt) }"""
    model = model_of(text, table=TABLE, other=normal(40, 64, seed=5))
    before = outputs(model, {"ids": IDS})
    apply(QuantizeTiedTable(), model)
    after = outputs(model, {"ids": IDS})
    assert not [each for each in stored(model).values() if each.shape == (40, 64)]
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=0.03 * np.abs(values).max())
