from pathlib import Path

import numpy as np
import pytest

from onnxcompress import compress, inspect_model
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.measure.zeros import zero_notes, zero_share
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeWeights, StoreSparse
from onnxcompress.passes.store_sparse import SparseForm
from onnxcompress.recipe import Recipe
from tests.passes.support import model_of, normal

NOT_TIME = "save bytes (store-sparse), not time"


def half_zero(share: float = 0.5) -> Model:
    w = normal(64, 40)
    w.reshape(-1)[: round(share * w.size)] = 0
    text = "g (float[N, 64] x) => (float[N, 40] y) { h = MatMul(x, w)  y = Add(h, b) }"
    return model_of(text, w=w, b=np.zeros(40, np.float32))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_the_share_of_zeros_in_weights(share: float) -> None:
    assert zero_share(half_zero(share)) == share


@pytest.mark.parametrize("form", [SparseForm.SPARSE_INITIALIZER, SparseForm.BITMAP])
@pytest.mark.parametrize("first", [[], [QuantizeWeights(min_elements=0)]], ids=["float", "int8"])
def test_zeros_count_when_they_are_not_stored(first: list[Pass], form: SparseForm) -> None:
    model = half_zero(0.9)
    PassManager(first).run(model)
    assert PassManager([StoreSparse(form=form)]).run(model)[0].modified
    assert zero_share(model) == pytest.approx(0.9, abs=0.001)


def test_integers_round_to_zeros_of_their_own() -> None:
    model = half_zero()
    PassManager([QuantizeWeights(min_elements=0)]).run(model)
    assert zero_notes(model) == ()


def test_a_note_says_what_zeros_are_worth() -> None:
    assert zero_notes(half_zero(0.05)) == ()
    (note,) = zero_notes(half_zero())
    assert note.startswith("50% of the weights are zeros: ")
    assert NOT_TIME in note
    assert zero_notes(model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }")) == ()


@pytest.mark.slow
def test_the_reports_carry_the_note(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    io.save(half_zero(), path)
    assert any(NOT_TIME in note for note in inspect_model(path).notes)
    recipe = Recipe.of([StoreSparse()])
    report = compress(path, tmp_path / "small.onnx", recipe=recipe, max_drop=1.0)
    assert any(NOT_TIME in note for note in report.notes)
    assert report.chosen.model is not None
    assert report.chosen.model.size.file_bytes < 0.8 * report.baseline.size.file_bytes


def test_store_sparse_is_advised_only_where_it_works() -> None:
    small = normal(20, 40)  # 800 elements, fewer than it takes
    small[:10] = 0
    model = model_of("g (float[N, 20] x) => (float[N, 40] y) { y = MatMul(x, w) }", w=small)
    (note,) = zero_notes(model)
    assert "save neither bytes, in tensors as these, nor time" in note
    assert not PassManager([StoreSparse()]).run(model)[0].modified
    barely = normal(64, 40)
    barely.reshape(-1)[: round(0.15 * barely.size)] = 0
    model = model_of("g (float[N, 64] x) => (float[N, 40] y) { y = MatMul(x, w) }", w=barely)
    assert not PassManager([StoreSparse()]).run(model)[0].modified
    assert "store-sparse" not in zero_notes(model)[0]
