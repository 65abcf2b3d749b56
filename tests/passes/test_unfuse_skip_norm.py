from onnxcompress.ir import io
from onnxcompress.pass_base import EXCLUDED, Override
from onnxcompress.passes import UnfuseSkipNorm
from onnxcompress.runtime.ort_profile import executed_ops
from tests.helpers import ops

from .support import apply_exact, model_of, normal, reasons

FEEDS = {"x": normal(2, 3, 8), "z": normal(2, 3, 8, seed=1)}
WEIGHTS = {"g": normal(8, seed=2), "b": normal(8, seed=3)}
TEXT = """g (float[2, 3, 8] x, float[2, 3, 8] z) => (float[2, 3, 8] y) {
  s = Add(x, %s)  [norm] y = LayerNormalization(s, g, b) }"""


def test_onnxruntime_fuses_the_pair_before_and_not_after() -> None:
    model = model_of(TEXT % "z", **WEIGHTS)
    assert "SkipLayerNormalization" in executed_ops(io.to_bytes(model))
    apply_exact(UnfuseSkipNorm(), model, FEEDS, tolerance=1e-6)
    assert ops(model) == ["Sum", "LayerNormalization"]
    assert "SkipLayerNormalization" not in executed_ops(io.to_bytes(model))


def test_a_bias_is_no_residual() -> None:
    model = model_of(TEXT % "b", **WEIGHTS)
    assert not apply_exact(UnfuseSkipNorm(), model, FEEDS).modified


def test_other_readers_of_the_sum_and_overrides() -> None:
    text = (TEXT % "z").replace(" y)", " y, float[2, 3, 8] s)")
    model = model_of(text, **WEIGHTS)
    apply_exact(UnfuseSkipNorm(), model, FEEDS, tolerance=1e-6)
    assert ops(model) == ["Sum", "LayerNormalization"]
    assert [output.name for output in model.graph.outputs] == ["y", "s"]
    model = model_of(TEXT % "z", **WEIGHTS)
    pass_ = UnfuseSkipNorm(overrides=(Override(None, nodes=("norm",)),))
    assert reasons(apply_exact(pass_, model, FEEDS)) == {"norm": EXCLUDED}
