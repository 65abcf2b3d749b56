import numpy as np
import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.passes import PalettizeWeights
from onnxcompress.passes.palettize_weights import CodebookGranularity
from onnxcompress.recipe import parse_pass
from tests.helpers import ops, outputs

from .restored import restored
from .support import apply, model_of, normal, reasons, sqnr

X = normal(4, 256)
W = normal(256, 96, seed=1)
PRODUCT = "g (float[N, 256] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }"


@pytest.mark.parametrize(
    ("entries", "bits", "decibels"), [(4, 2, 9), (16, 4, 20), (32, 8, 25.5), (256, 8, 42)]
)
def test_weights_become_the_nearest_entries(entries: int, bits: int, decibels: float) -> None:
    model = model_of(PRODUCT, w=W)
    report = apply(PalettizeWeights(entries=entries), model)
    shifts = ["BitShift", "Mod"] if bits < 8 else []
    assert ops(model) == [*shifts, "Cast", "Reshape", "Gather", "MatMul"]
    small = restored(model, "n")
    book = np.unique(small)
    assert book.size == entries
    nearest = book[np.abs(W[..., None].astype(np.float64) - book).argmin(-1)]
    np.testing.assert_array_equal(small, nearest)
    assert sqnr(W, small) > decibels
    expected = X.astype(np.float64) @ nearest
    np.testing.assert_allclose(outputs(model, {"x": X})["y"], expected, rtol=2e-5, atol=2e-5)
    bytes_ = 256 * 96 * bits // 8 + 4 * entries
    assert bytes_ < report.bytes_after < bytes_ + 50


def test_a_codebook_for_each_channel() -> None:
    w = normal(256, 96, seed=1) * np.logspace(-3, 3, 96, dtype=np.float32)
    model = model_of(PRODUCT, w=w)
    report = apply(PalettizeWeights(granularity=CodebookGranularity.PER_CHANNEL), model)
    small = restored(model, "n")
    assert all(np.unique(small[:, channel]).size == 16 for channel in range(96))
    assert min(sqnr(w[:, c], small[:, c]) for c in range(96)) > 19
    assert report.bytes_after < 256 * 96 // 2 + 96 * (4 * 16 + 4) + 50


def test_values_that_fit_the_codebook_stay_as_they_are() -> None:
    w = np.random.default_rng(0).choice(np.linspace(-1, 1, 11), (256, 96)).astype(np.float32)
    model = model_of(PRODUCT, w=w)
    apply(PalettizeWeights(), model)
    np.testing.assert_array_equal(restored(model, "n"), w)


def test_codebooks_larger_than_the_weight_are_not_used() -> None:
    model = model_of("g (float[N, 16] x) => (float[N, 96] y) { [n] y = MatMul(x, w) }", w=W[:16])
    pass_ = PalettizeWeights(granularity=CodebookGranularity.PER_CHANNEL)
    report = apply(pass_, model)
    assert not report.modified
    assert reasons(report)["n"].endswith("no less than its 6144")


@pytest.mark.parametrize("text", ["entries=3", "entries=257", "seed=-1"])
def test_options_out_of_range(text: str) -> None:
    with pytest.raises(RecipeError, match="must be"):
        parse_pass(f"palettize-weights:{text}")
