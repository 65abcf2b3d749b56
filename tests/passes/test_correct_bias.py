import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Override, Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import CorrectBias, QuantizeStatic, RemoveUnused
from onnxcompress.passes.correct_bias import CorrectionMethod
from onnxcompress.qdq.reading import dequantized_values
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.target import Target
from tests.helpers import node, outputs

from .support import Array, model_of, normal, reasons

IMAGES = normal(16, 3, 8, 8) + 3  # a mean far from zero, so that weight errors have one too
STATIC = QuantizeStatic(per_channel=False)

ONE = """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) {
  [c] h = Conv <pads = [1, 1, 1, 1]> (x, w, b)  y = Sin(h) }"""
TWO = """g (float[N, 3, 8, 8] x) => (float[N, 2] y) {
  [c] h = Conv <pads = [1, 1, 1, 1]> (x, w, b)  r = Relu(h)
  p = GlobalAveragePool(r)  f = Flatten(p)  [head] y = Gemm(f, v, c) }"""
WEIGHTS = {
    "w": normal(4, 3, 3, 3, seed=1) * np.array([1, 0.1, 0.02, 1], np.float32).reshape(-1, 1, 1, 1),
    "b": normal(4, seed=2),
}
HEAD = {"v": normal(4, 2, seed=3), "c": normal(2, seed=4)}


def _context(model: Model, float_model: Model | None = None) -> RuntimeContext:
    data = dataset_of({"x": IMAGES}, Session(io.to_bytes(model)).inputs)
    return RuntimeContext(data, target=Target.X86_VNNI, float_model=float_model)


def _quantized(model: Model, *passes: Pass) -> Model:
    result = clone(model)
    PassManager([STATIC, *passes]).run(result, _context(model))
    return result


def _mean_error(original: Model, model: Model, name: str) -> Array:
    context = _context(original)
    means = []
    for each in (original, model):
        tensor = node(each, name).outputs[0].name
        values = np.concatenate([b[tensor] for b in context.activations(each, [tensor])])
        axes = tuple(a for a in range(values.ndim) if a != 1)
        means.append(values.astype(np.float64).mean(axes))
    error: Array = means[1] - means[0]
    return error


def test_the_analytic_shift_is_that_of_float64() -> None:
    original = model_of(ONE, **WEIGHTS)
    model = _quantized(original, CorrectBias())
    errors = dequantized_values(node(model, "c"), 1) - WEIGHTS["w"]
    padded = np.pad(IMAGES.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    shift = np.zeros(4)
    for i in range(3):
        for j in range(3):
            mean = padded[:, :, i : i + 8, j : j + 8].mean((0, 2, 3))
            shift += errors[:, :, i, j] @ mean
    bias = node(model, "c").inputs[2].inputs[0]
    step = float(bias.inputs[1].values)
    got = dequantized_values(node(model, "c"), 2)
    np.testing.assert_allclose(got, WEIGHTS["b"] - shift, atol=0.51 * step)
    assert np.abs(shift).max() > 20 * step


@pytest.mark.parametrize("method", CorrectionMethod)
def test_the_mean_error_goes(method: CorrectionMethod) -> None:
    original = model_of(TWO, **WEIGHTS, **HEAD)
    plain = _quantized(original)
    model = _quantized(original, CorrectBias(method=method))
    for name in ("c", "head"):
        before = np.abs(_mean_error(original, plain, name)).max()
        after = np.abs(_mean_error(original, model, name)).max()
        if method is CorrectionMethod.EMPIRICAL:
            scale = node(model, name).inputs[2].inputs[0].inputs[1]
            assert after < 0.6 * float(scale.values) + 1e-5
        assert after < 0.5 * before
    seen = outputs(original, {"x": IMAGES})["y"]
    drift = [np.abs((outputs(m, {"x": IMAGES})["y"] - seen).mean(0)).max() for m in (plain, model)]
    assert drift[1] < 0.5 * drift[0]


@pytest.mark.parametrize("method", CorrectionMethod)
def test_a_second_run_changes_nothing(method: CorrectionMethod) -> None:
    original = model_of(TWO, **WEIGHTS, **HEAD)
    model = _quantized(original)
    context = _context(original, original)
    passes = PassManager([CorrectBias(method=method)])
    assert passes.run(model, context)[0].modified
    before = outputs(model, {"x": IMAGES})["y"]
    assert not passes.run(model, context)[0].modified
    np.testing.assert_array_equal(outputs(model, {"x": IMAGES})["y"], before)


def test_the_float_model_is_the_one_before_quantization() -> None:
    """Passes before it may have scaled every tensor, so the file as loaded is no reference."""
    seen: list[Model | None] = []

    class Spy(RemoveUnused):
        def run(self, model, edit, context) -> None:  # type: ignore[no-untyped-def]
            del model, edit
            seen.append(context.float_model)

    original = model_of(TWO, **WEIGHTS, **HEAD)
    PassManager([Spy(), STATIC, Spy(), CorrectBias(), Spy()]).run(
        clone(original), context := _context(original)
    )
    assert seen[0] is None and context.float_model is None
    assert seen[1] is not None and seen[1] is seen[2]
    assert io.to_bytes(seen[1]) == io.to_bytes(clone(original))


def test_what_is_left_alone_is_told() -> None:
    text = """g (float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {
      [bare] a = Conv(x, u)  [mine] b = Conv(a, v, c)  [renamed] d = Conv(b, w, c)
      [other] y = Conv(d, z, c) }"""
    weights = {name: normal(3, 3, 1, 1, seed=i) for i, name in enumerate("uvwz")}
    original = model_of(text, **weights, c=normal(3))
    model = _quantized(original)
    assert reasons(PassManager([CorrectBias()]).run(model, _context(original))[0]) == dict.fromkeys(
        ("bare", "mine", "renamed", "other"), "no float model is known to compare with"
    )
    reference = model_of(
        text.replace("[renamed]", "[else]"), **{**weights, "z": normal(3, 3, 3, 3)}, c=normal(3)
    )
    pass_ = CorrectBias(overrides=(Override(None, nodes=("mine",)),))
    report = PassManager([pass_]).run(model, _context(original, reference))[0]
    assert not report.modified
    assert reasons(report) == {
        "bare": "it has no stored bias to correct",
        "mine": EXCLUDED,
        "renamed": "the float model has no such node",
        "other": "the weight of the float model's node is not stored, or of another shape",
    }
