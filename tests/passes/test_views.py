"""Weights that nodes read through others: packed as if stored, and never beside their floats."""

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override, Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import (
    ConvertFloat,
    PalettizeWeights,
    QuantizeDynamic,
    QuantizeStatic,
    QuantizeWeights,
)
from onnxcompress.passes.convert_float import SmallFloat
from onnxcompress.qdq.integer_weights import WeightBits
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.helpers import outputs

from .support import apply, model_of, normal, reasons, sqnr, stored

WEIGHT = normal(64, 48)
VIEWS = {
    "stored": ("", "w", WEIGHT),
    "Identity": ("v = Identity(w)", "v", WEIGHT),
    "Transpose": ("v = Transpose <perm = [1, 0]> (w)", "v", WEIGHT.T),
    "Reshape": ("v = Reshape(w, s)", "v", WEIGHT.reshape(-1)),
    "Squeeze": ("v = Squeeze(w)", "v", WEIGHT[None]),
    "Unsqueeze": ("u = Unsqueeze(w, zero)  v = Squeeze(u, zero)", "v", WEIGHT),
    "Cast": ("v = Cast <to = 1> (w)", "v", WEIGHT.astype(np.float64)),
    "half": ("v = Cast <to = 1> (w)", "v", WEIGHT.astype(np.float16)),
    "Concat": ("v = Concat <axis = 0> (w, w2)", "v", WEIGHT[:32]),
    "unit": ("", "w", WEIGHT[None]),
}
PASSES = (
    QuantizeWeights(),
    QuantizeDynamic(min_elements=1024),
    QuantizeStatic(),
)
X = {"x": normal(24, 4, 64, seed=3)}


def _behind(view: str) -> Model:
    nodes, name, stored_as = VIEWS[view]
    more = {"w2": WEIGHT[32:]} if view == "Concat" else {}
    return model_of(
        "g (float[N, 4, 64] x) => (float[N, 4, 48] y) "
        f"{{ {nodes}  r = Relu(x)  y = MatMul(r, {name}) }}",
        w=np.ascontiguousarray(stored_as),
        s=np.array([64, 48]),
        zero=np.array([0]),
        **more,
    )


@pytest.mark.parametrize("pass_", PASSES, ids=lambda pass_: pass_.name)
@pytest.mark.parametrize("view", VIEWS)
def test_a_weight_behind_a_view_becomes_what_a_stored_one_does(view: str, pass_: Pass) -> None:
    plain, model = _behind("stored"), _behind(view)
    for each in (plain, model):
        apply(pass_, each, data=X)
    assert not [
        each for each in stored(model).values() if each.dtype.kind == "f" and each.size > 64
    ]
    found, wanted = outputs(model, X)["y"], outputs(plain, X)["y"]
    off = 2e-2 if view == "half" else 1e-6
    np.testing.assert_allclose(found, wanted, atol=off * np.abs(wanted).max())


def test_what_stays_float_goes_on_reading_its_view() -> None:
    model = _behind("Transpose")
    before = io.to_bytes(model)
    report = apply(QuantizeWeights(min_elements=10**6), model)
    assert not report.modified
    assert io.to_bytes(model) == before


TIED = """g (int64[N, L] ids) => (float[N, L, 40] y) {
  e = Gather(t, ids)  a = Relu(e)
  tt = Transpose <perm = [1, 0]> (t)  [logits] y = MatMul(a, tt) }"""
TABLE = normal(40, 64)
IDS = {"ids": np.arange(24).reshape(6, 4)}


def _tied() -> Model:
    return model_of(TIED, t=TABLE)


def test_no_packed_copy_stands_beside_the_float() -> None:
    model = _tied()
    report = apply(QuantizeDynamic(embeddings=False, min_elements=1024), model)
    assert not report.modified
    assert reasons(report)["logits"].startswith("'Gather_e' reads its weight too and keeps it")


def test_nor_where_the_recipe_excludes_its_other_reader() -> None:
    model = _tied()
    options = QuantizeWeights(overrides=(Override(None, op_types=("Gather",)),))
    report = apply(options, model)
    assert not report.modified
    assert reasons(report)["Gather_e"] == EXCLUDED
    assert reasons(report)["logits"].startswith("'Gather_e' reads its weight too and keeps it")


SHARED = """g (float[N, 64] x, float[N, 64] z) => (float[N, 48] y) {
  v = Identity(w)  a = MatMul(x, w)  b = MatMul(z, v)  y = Sub(a, b) }"""


def test_a_renamed_weight_is_stored_once() -> None:
    """A siamese net as exporters write it."""
    model = model_of(SHARED, w=WEIGHT)
    apply(QuantizeWeights(), model)
    assert [each.shape for each in stored(model).values() if each.size == WEIGHT.size] == [(64, 48)]
    assert model.weight_bytes < 0.3 * WEIGHT.nbytes


def _with_default() -> Model:
    text = "g (float[N, 64] x, float[64, 48] w) => (float[N, 48] y) { [product] y = MatMul(x, w) }"
    return model_of(text, w=WEIGHT)


@pytest.mark.parametrize("pass_", PASSES, ids=lambda pass_: pass_.name)
def test_an_input_that_the_data_do_not_feed_is_a_constant(pass_: Pass) -> None:
    model = _with_default()
    before = outputs(model, {"x": X["x"][:, 0]})["y"]
    report = apply(pass_, model, data={"x": X["x"][:, 0]})
    assert "'w', which the data do not feed, are no inputs any more" in report.changes[0].detail
    assert [each.name for each in model.graph.inputs] == ["x"]
    assert report.bytes_before == WEIGHT.nbytes and report.bytes_after < 0.3 * WEIGHT.nbytes
    assert sqnr(before, outputs(model, {"x": X["x"][:, 0]})["y"]) > 25


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"x": X["x"][:, 0], "w": np.stack([WEIGHT] * 24)}, "which the data feed"),
        (None, "with data that do not feed it, a constant"),
    ],
)
def test_else_the_true_reason_is_told(data: dict[str, np.ndarray] | None, reason: str) -> None:
    model = _with_default()
    dataset = None if data is None else dataset_of(data, Session(io.to_bytes(model)).inputs)
    report = PassManager([QuantizeWeights()]).run(model, RuntimeContext(dataset))[0]
    assert not report.modified
    assert list(model.graph.defaults) == ["w"]
    assert reasons(report)["product"].startswith("its weight is the input 'w'")
    assert reason in reasons(report)["product"]


@pytest.mark.parametrize("pass_", PASSES, ids=lambda pass_: pass_.name)
@pytest.mark.parametrize(
    "back",
    [
        "v = Transpose <perm = [1, 0]> (w)  [up] y = MatMul(h, v)",
        "[up] y = Gemm <transB = 1> (h, w)",
    ],
)
def test_a_weight_that_is_read_both_ways_has_two_kinds_of_scales(pass_: Pass, back: str) -> None:
    """An autoencoder with tied weights: what must be stored twice is told."""
    text = (
        f"g (float[N, 64] x) => (float[N, 64] y) {{ [down] d = MatMul(x, w)  h = Tanh(d)  {back} }}"
    )
    model, data = model_of(text, w=WEIGHT), {"x": X["x"][:, 0]}
    before = outputs(model, data)["y"]
    report = apply(pass_, model, data=data)
    told = [change.detail for change in report.changes if change.op == "graph"]
    assert told[-1].startswith("'down' and 'up' read one weight in two ways")
    assert sqnr(before, outputs(model, data)["y"]) > 25


RECURRENT = """g (float[5, N, 16] x) => (float[5, 1, N, 24] y) {
  r = Tanh(x)  a = Transpose <perm = [1, 0]> (wi)  w = Unsqueeze(a, zero)
  c = Concat <axis = 0> (wh, wg)  u = Unsqueeze(c, zero)  y = GRU <hidden_size = 24> (r, w, u) }"""


@pytest.mark.parametrize("pass_", PASSES[:2], ids=lambda pass_: pass_.name)
def test_recurrent_weights_behind_views(pass_: Pass) -> None:
    """As the exporter from torch.export writes them."""
    weights = {"wi": normal(16, 72) / 4, "wh": normal(24, 24) / 4, "wg": normal(48, 24) / 4}
    model = model_of(RECURRENT, zero=np.array([0]), **weights)
    feeds = {"x": normal(5, 3, 16)}
    before = outputs(model, feeds)["y"]
    apply(pass_, model)
    kinds = {each.dtype.name for each in stored(model).values() if each.size > 72}
    assert kinds == {"int8"}
    assert sqnr(before, outputs(model, feeds)["y"]) > 30


@pytest.mark.parametrize(
    ("pass_", "packs"),
    [
        (QuantizeWeights(bits=WeightBits.SIXTEEN), False),
        (ConvertFloat(dtype=SmallFloat.BFLOAT16), False),
        (ConvertFloat(dtype=SmallFloat.FLOAT8_E4M3FN), True),
        (PalettizeWeights(), True),
    ],
)
def test_what_is_stored_in_half_is_stored_in_less_or_left(pass_: Pass, packs: bool) -> None:
    model = _behind("half")
    before = model.weight_bytes
    assert apply(pass_, model).modified == packs
    assert (model.weight_bytes < before) == packs


@pytest.mark.parametrize("pass_", PASSES, ids=lambda pass_: pass_.name)
def test_a_view_of_a_half_that_is_computed_with_says_so(pass_: Pass) -> None:
    model = model_of(
        "g (float16[N, 64] x) => (float16[N, 48] y) "
        "{ v = Transpose <perm = [1, 0]> (w)  [n] y = MatMul(x, v) }",
        w=WEIGHT.T.astype(np.float16),
    )
    told = reasons(apply(pass_, model, data={"x": X["x"][:, 0].astype(np.float16)}))
    assert told["n"].startswith("its weight is float16, not float32; use-float32 before")
