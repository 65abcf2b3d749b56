"""Real models with weights stored small: sizes, nothing left to unpack, accuracy as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.opset import require_opset
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import BinarizeWeights, ConvertFloat, PalettizeWeights, TernarizeWeights
from onnxcompress.passes.convert_float import Scope, SmallFloat
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.ort_profile import executed_ops
from onnxcompress.runtime.session import Session

from .test_properties import CLEAN

KEEPS_ACCURACY = 0.02
"""How much of the accuracy on 50 samples a harmless form may cost."""


@pytest.mark.parametrize(
    ("pass_", "times", "harmless"),
    [
        (BinarizeWeights(), 25, False),
        (TernarizeWeights(), 14, False),
        (PalettizeWeights(), 7, False),
        (PalettizeWeights(entries=256), 3.6, True),
        (ConvertFloat(), 1.99, True),
        (ConvertFloat(dtype=SmallFloat.FLOAT8_E4M3FN), 3.6, False),
    ],
    ids=lambda value: value.name if isinstance(value, Pass) else "",
)
def test_weights_shrink_and_run_as_float(
    subject: Path, pass_: Pass, times: float, harmless: bool
) -> None:
    original = Session(subject / "model.onnx")
    test = load_dataset(str(subject / "test.npz"), original.inputs)
    context = RuntimeContext(test.take(range(1)))
    model = io.load(subject / "model.onnx")
    PassManager(CLEAN).run(model, context)
    clean = clone(model)
    PassManager([pass_]).run(model, context)
    before = {constant.name: constant.nbytes for constant in clean.constants()}
    after = {constant.name: constant.nbytes for constant in model.constants()}
    replaced = sum(size for name, size in before.items() if name not in after)
    added = sum(size for name, size in after.items() if name not in before)
    assert replaced > 0.95 * clean.weight_bytes
    assert replaced / added >= times
    raw = io.to_bytes(model)
    require_opset(clean, pass_.required_opset())  # which may change what onnxruntime fuses
    assert executed_ops(raw) == executed_ops(io.to_bytes(clean))
    if harmless:
        assert _hits(Session(raw), test) >= _hits(original, test) - KEEPS_ACCURACY * 50


def test_a_float16_graph_is_finite_and_as_accurate(subject: Path) -> None:
    original = Session(subject / "model.onnx")
    test = load_dataset(str(subject / "test.npz"), original.inputs)
    calibration = load_dataset(str(subject / "calibration.npz"), original.inputs)
    context = RuntimeContext(calibration.take(range(8)))
    model = io.load(subject / "model.onnx")
    size = model.weight_bytes
    PassManager([*CLEAN, ConvertFloat(scope=Scope.GRAPH)]).run(model, context)
    assert model.weight_bytes < 0.51 * size
    assert _hits(Session(io.to_bytes(model)), test) >= _hits(original, test) - 1


def _hits(session: Session, test: Dataset) -> int:
    """Right answers on the first 50 samples; all answers must be finite."""
    hits = 0
    for batch in test.take(range(50)).batches(10):
        answers = next(iter(session.run(batch.feeds).values()))
        assert np.isfinite(answers).all()
        hits += int((answers.argmax(axis=1) == batch.labels).sum())
    return hits
