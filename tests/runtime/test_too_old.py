"""An onnxruntime or onnx that is too old for a model is told by version."""

import ml_dtypes
import numpy as np
import onnx
import pytest

from onnxcompress.errors import ModelError, SessionError
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.opset import require_opset
from onnxcompress.runtime.too_old import require_runtime
from tests.helpers import parse


def _of(bits: str, call: str = "DequantizeLinear(w, s)") -> Model:
    model = parse(f"g (float s, float[4] w) => (float[4] y) {{ [n] y = {call} }}")
    values = np.zeros(4, np.int8).astype(np.dtype(getattr(ml_dtypes, bits, bits)))
    (node,) = [node for _, node in model.nodes()]
    node.inputs[0] = Constant("w", values)
    return model


@pytest.mark.parametrize(
    ("model", "installed", "told"),
    [
        (_of("int4"), "1.18.1", r"an integer of 4 bits \('w'\) needs onnxruntime 1.19 or newer"),
        (_of("uint2"), "1.23.2", r"an integer of 2 bits \('w'\) needs onnxruntime 1.24 or newer"),
        (
            _of("int8", "DequantizeLinear <block_size = 2> (w, s)"),
            "1.18.1",
            r"a scale for each block \('n'\) needs onnxruntime 1.19 or newer; this is 1.18.1",
        ),
    ],
)
def test_the_version_is_named(model: Model, installed: str, told: str) -> None:
    with pytest.raises(SessionError, match=told):
        require_runtime(model, installed)
    require_runtime(model, "1.25.0")


def test_what_every_version_runs_is_not_refused() -> None:
    require_runtime(_of("int8"), "1.18.1")


def test_an_opset_that_onnx_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 21)
    with pytest.raises(ModelError, match=r"opset 25 needs onnx 1.20 or newer; this is"):
        require_opset(_of("int8"), 25)
