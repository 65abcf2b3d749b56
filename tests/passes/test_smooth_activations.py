"""Outliers moved from activations into weights: exact in float, less noise in int8."""

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override, Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeDynamic, QuantizeStatic, SmoothActivations
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP
from tests.helpers import ops, outputs

from .support import apply, model_of, normal, reasons, sqnr, stored_input

X = normal(40, 6, 32)
GAIN = np.where(np.arange(32) % 11 == 3, np.float32(50), np.float32(1))
"""What a trained normalization does to a few channels."""

BLOCK = """g (float[N, 6, 32] x) => (float[N, 6, 32] y) {
  n = LayerNormalization(x, g1, b1)
  [q] q0 = MatMul(n, wq)  q = Add(q0, bq)  [k] k0 = MatMul(n, wk)  [v] v0 = MatMul(n, wv)
  m = Mul(q, k0)  a = Add(m, v0)  r = Add(x, a)
  s2 = Mul(r, r)  mean = ReduceMean <keepdims = 1> (s2, last)  e = Add(mean, eps)  sd = Sqrt(e)
  i = Div(r, sd)  o = Mul(g2, i)
  [gate] t0 = MatMul(o, wg)  sig = Sigmoid(t0)  t = Mul(t0, sig)  [up] u = MatMul(o, wu)
  h = Mul(t, u)  [down] d = MatMul(h, wd)  y = Add(r, d) }"""
WEIGHTS = {
    "g1": GAIN,
    "b1": normal(32, seed=1),
    "g2": GAIN[::-1].copy(),
    "wq": normal(32, 32, seed=2) / 30,
    "bq": normal(32, seed=3),
    "wk": normal(32, 32, seed=4) / 30,
    "wv": normal(32, 32, seed=5) / 30,
    "wg": normal(32, 64, seed=6) / 30,
    "wu": normal(32, 64, seed=7) / 30 * np.tile(GAIN, 2),
    "wd": normal(64, 32, seed=8),
    "last": np.array([2]),
    "eps": np.array(1e-6, np.float32),
}


def _block() -> Model:
    return model_of(BLOCK, **WEIGHTS)


def test_outputs_stay_and_ranges_even_out() -> None:
    model = _block()
    before = outputs(model, {"x": X})["y"]
    count = len(ops(model))
    report = apply(SmoothActivations(), model, data={"x": X})
    assert report.skips == () and len(ops(model)) == count
    assert "equal" in report.verification
    after = outputs(model, {"x": X})["y"]
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()
    plain, smooth = _spreads(_block()), _spreads(model)
    assert all(smooth[name] < 0.4 * plain[name] for name in ("n", "o", "h"))


def _spreads(model: Model) -> dict[str, float]:
    """How far the widest channel of each tensor that products read is from the others."""
    watched = clone(model)
    watched.graph.outputs += [
        tensor for node in watched.graph.nodes for tensor in node.outputs if tensor.name in "noh"
    ]
    found = outputs(watched, {"x": X})
    largest = {name: np.abs(found[name]).max((0, 1)) for name in "noh"}
    return {name: float(each.max() / np.median(each)) for name, each in largest.items()}


@pytest.mark.parametrize("pass_", [QuantizeStatic(), QuantizeDynamic(min_elements=0)])
def test_int8_loses_less(pass_: Pass) -> None:
    plain, smooth = _block(), _block()
    before = outputs(plain, {"x": X})["y"]
    apply(SmoothActivations(), smooth, data={"x": X})
    noise = []
    for model in (plain, smooth):
        apply(pass_, model, data={"x": X})
        noise.append(sqnr(before, outputs(model, {"x": X})["y"]))
    assert noise[1] > noise[0] + 6


POST_NORM = """g (float[N, 6, 32] x) => (float[N, 6, 32] y) {
  n = LayerNormalization(x, g1, b1)
  [up] u = MatMul(n, wu)  e = Erf(u)  h = Mul(u, e)  [down] d = MatMul(h, wd)
  y = Add(n, d) }"""
POST_NORM_WEIGHTS = {
    "g1": GAIN,
    "b1": normal(32, seed=1),
    "wu": normal(32, 64, seed=7) / 30 * np.tile(GAIN, 2),
    "wd": normal(64, 32, seed=8),
}


@pytest.mark.parametrize("pass_", [QuantizeStatic(), QuantizeDynamic(min_elements=0)])
def test_nodes_divide_where_nothing_else_can(pass_: Pass) -> None:
    """A normalization that a residual connection reads too, and an activation."""
    plain, model = (model_of(POST_NORM, **POST_NORM_WEIGHTS) for _ in range(2))
    exact = outputs(plain, {"x": X})["y"]
    assert set(reasons(apply(SmoothActivations(), plain, data={"x": X}))) == {"up", "down"}
    report = apply(SmoothActivations(add_nodes=True), model, data={"x": X})
    assert report.skips == ()
    assert sorted(ops(model)) == sorted([*ops(plain), "Mul", "Mul"])
    smoothed = outputs(model, {"x": X})["y"]
    assert np.abs(smoothed - exact).max() < 1e-5 * np.abs(exact).max()
    # The residual connection still reads what it read.
    assert [node.op for node in model.graph.nodes if node.outputs[0].name == "n"] == [
        "LayerNormalization"
    ]
    for each in (plain, model):
        apply(pass_, each, data={"x": X})
    kept = [sqnr(exact, Session(io.to_bytes(each)).run({"x": X})["y"]) for each in (plain, model)]
    assert kept[1] > kept[0] + 5


def test_one_scale_for_a_weight_leaves_less_room() -> None:
    """Factors that suit a scale for each output may ruin a weight that has one for all."""
    pass_, kept = QuantizeStatic(per_channel=False), {}
    exact = outputs(_block(), {"x": X})["y"]
    for per_channel in (None, True, False):
        model = _block()
        if per_channel is not None:
            apply(SmoothActivations(per_channel=per_channel), model, data={"x": X})
        apply(pass_, model, data={"x": X})
        kept[per_channel] = sqnr(exact, Session(io.to_bytes(model)).run({"x": X})["y"])
    assert kept[False] > max(kept[None] - 0.3, kept[True] - 0.3)


def test_a_fixed_strength_gives_the_factors_of_the_paper() -> None:
    model = model_of(
        """g (float[N, 32] x) => (float[N, 48] y) {
          n = Mul(x, g)  [p] y = MatMul(n, w) }""",
        g=GAIN,
        w=normal(32, 48, seed=1),
    )
    data = normal(100, 32)
    apply(SmoothActivations(strength=0.75), model, data={"x": data})
    w = normal(32, 48, seed=1)
    factors = np.abs(data * GAIN).max(0) ** 0.75 / np.abs(w).max(1) ** 0.25
    np.testing.assert_allclose(stored_input(model, "p", 1), w * factors[:, None], rtol=1e-5)
    product = next(node for node in model.graph.nodes if node.op == "Mul")
    np.testing.assert_allclose(stored_input(model, product.name, 1), GAIN / factors, rtol=1e-5)


def test_what_is_left_alone_is_told() -> None:
    model = model_of(
        """g (float[N, 32] x) => (float[N, 32] y, float[N, 32] out) {
          a = Mul(x, g)  [both] b = MatMul(a, w)  c = Neg(a)
          [neg] d = MatMul(c, w2)  e = Mul(x, ones)  [even] f = MatMul(e, even)
          i = Mul(x, g)  [mine] j = MatMul(i, w3)
          out = Mul(x, g)  [returned] k = MatMul(out, w4)
          m = Mul(x, g)  [one] n = MatMul(m, ws)  o = Mul(x, g)  [two] p = MatMul(o, ws)
          s = Add(b, d)  t = Add(s, f)  u = Add(t, j)  v = Add(u, k)  r = Add(v, n)  y = Add(r, p)
        }""",
        g=GAIN,
        w=normal(32, 32),
        w2=normal(32, 32, seed=2),
        w3=normal(32, 32, seed=3),
        w4=normal(32, 32, seed=4),
        ws=normal(32, 32, seed=5),
        even=normal(32, 32, seed=6),
        ones=np.ones(32, np.float32),
    )
    pass_ = SmoothActivations(
        overrides=(
            Override(None, nodes=("mine",)),
            Override(SmoothActivations(least_gain=0.99), nodes=("even",)),
        )
    )
    report = apply(pass_, model, data={"x": normal(50, 32)})
    assert not report.modified
    told = reasons(report)
    assert told.pop("even").startswith("int8 would leave ")
    assert told.pop("both").startswith("'a' is also read by Neg")
    assert told.pop("neg").endswith("passes no factors on")
    assert told == {
        "mine": EXCLUDED,
        "returned": "'out' is an output",
        "one": "'ws' has other readers",
        "two": "'ws' has other readers",
    }


def test_without_data_it_says_what_it_wants() -> None:
    with pytest.raises(PassError, match=r"smooth-activations.*calibration data"):
        PassManager([SmoothActivations()]).run(_block())


@pytest.mark.parametrize("subject", ["minilm"], indirect=True)
def test_an_exported_encoder_keeps_its_answers_and_tells_what_stays(subject: Path) -> None:
    inputs = Session(subject / "model.onnx").inputs
    calibration = load_dataset(str(subject / "calibration.npz"), inputs).take(range(6))
    context = RuntimeContext(calibration)
    model = io.load(subject / "model.onnx")
    PassManager(CLEAN_UP).run(model, context)
    report = PassManager([SmoothActivations()]).run(model, context)[0]
    assert report.modified and report.error is None and "equal" in report.verification
    told = " ".join(skip.reason for skip in report.skips)
    assert "LayerNormalization_output_0' is also read by" in told  # the residual connection
    assert "has one number for all channels, as in Gelu" in told
    assert not PassManager([SmoothActivations()]).run(model, context)[0].modified
