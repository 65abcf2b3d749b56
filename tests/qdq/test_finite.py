"""One tensor that is infinite inside leaves its neighbours float, and all others quantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import QuantizeFixedPoint, QuantizeStatic
from onnxcompress.quantization.observers import Observer
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.passes.support import model_of, normal

X = np.random.default_rng(0).standard_normal((20, 3, 8, 8)).astype(np.float32)


def branched() -> Model:
    """A Log of zeros feeds a convolution, and a Clip makes its infinities finite again."""
    return model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y)
        <float lo = {-1.0}, float hi = {1.0}>
        { c = Conv(x, w)  a = Relu(c)  d = Conv(a, u)
          l = Log(a)  e = Conv(l, u)  k = Clip(e, lo, hi)  y = Add(d, k) }""",
        w=normal(8, 3, 3, 3),
        u=np.abs(normal(4, 8, 1, 1)),
    )


def context_of(model: Model, calibration: Path | None = None) -> RuntimeContext:
    session = Session(io.to_bytes(model))
    return RuntimeContext(dataset_of({"x": X}, session.inputs), calibration=calibration)


@pytest.mark.parametrize(
    "pass_",
    [QuantizeStatic(), QuantizeStatic(observer=Observer.OUTPUT_ERROR), QuantizeFixedPoint()],
    ids=["static", "output-error", "fixed-point"],
)
def test_neighbours_of_an_infinite_tensor_stay_float(pass_: Pass) -> None:
    model = branched()
    expected = Session(io.to_bytes(model)).run({"x": X})["y"]
    (report,) = PassManager([pass_]).run(model, context_of(model))
    assert ("Conv_e", "'l' holds NaN or infinite values on the calibration data") in {
        (skip.node, skip.reason) for skip in report.skips
    }
    convolutions = [node for node in model.graph.nodes if node.op == "Conv"]
    quantized = [node.inputs[0].inputs[0].op == "DequantizeLinear" for node in convolutions]
    assert quantized == [True, True, False]
    found = Session(io.to_bytes(model)).run({"x": X})["y"]
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_what_would_be_written_as_integers_stays_float_too() -> None:
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) <float z = {0.0}>
        { p = Mul(x, z)  q = Div(x, p)  c = Conv(q, w)  r = Relu(c)  d = Conv(x, v)
          s = IsNaN(r)  t = Where(s, d, d)  y = Add(t, d) }""",
        w=normal(8, 3, 3, 3),
        v=normal(8, 3, 3, 3, seed=1),
    )
    (report,) = PassManager([QuantizeStatic()]).run(model, context_of(model))
    skipped = {skip.node: skip.reason for skip in report.skips}
    assert "'q' holds NaN or infinite values" in skipped["Conv_c"]
    assert "Conv_d" not in skipped
    assert report.modified


def test_a_stored_table_knows_what_was_not_finite(tmp_path: Path) -> None:
    model, table = branched(), tmp_path / "table.npz"
    names = ["a", "l"]
    first = context_of(model, table).ranges(model, names, Observer.MIN_MAX)
    again = context_of(model, table).ranges(model, names, Observer.MIN_MAX)
    assert list(first) == ["a"]
    assert again == first


@pytest.mark.parametrize("pass_", [QuantizeStatic(), QuantizeFixedPoint()])
def test_a_stored_weight_that_is_not_finite_stays_float(pass_: Pass) -> None:
    weight = normal(8, 3, 3, 3)
    weight[0, 0, 0, 0] = np.inf
    model = model_of(
        """g (float[N, 3, 8, 8] x) => (float[N, 8, 6, 6] y) { c = Conv(x, w)  d = Conv(x, u)
        y = Max(c, d) }""",
        w=weight,
        u=normal(8, 3, 3, 3),
    )
    (report,) = PassManager([pass_]).run(model, context_of(model))
    skipped = {skip.node: skip.reason for skip in report.skips}
    assert "its weight holds NaN or infinite values" in skipped["Conv_c"]
    assert "Conv_d" not in skipped
