"""What is stored again without training is what was stored, to the last byte."""

from pathlib import Path

import numpy as np
import pytest
import torch

from onnxcompress.data.loading import dataset_of
from onnxcompress.distillation.parameters import BiasScale, IntegerParameter, find_parameters
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes.fine_tune import FineTune
from onnxcompress.passes.quantize_static import QuantizeStatic
from onnxcompress.passes.quantize_weights import QuantizeWeights
from onnxcompress.qdq.integer_weights import WeightBits
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.conftest import SUBJECTS
from tests.passes.support import model_of, opset

pytestmark = pytest.mark.slow

WEIGHTS = {
    "digits": 10,
    "efficientnet-lite0": 100,
    "minilm": 103,
    "orientation": 92,
    "resnet20": 40,
    "smollm2": 274,
    "speaker-encoder": 11,
    "text-line": 110,
}
"""Stored tensors that are weights."""

QUANTIZED = {
    "static": QuantizeStatic(),
    "int8": QuantizeWeights(),
    "int4": QuantizeWeights(bits=WeightBits.FOUR, block_size=32),
}


def folder_of(subject: str) -> Path:
    folder = SUBJECTS / subject
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{subject} was not fetched: python -m benchmarks.subjects fetches it")
    return folder


def context_of(folder: Path, samples: int) -> RuntimeContext:
    session = Session(folder / "model.onnx")
    with np.load(folder / "calibration.npz") as arrays:
        first = {each.name: arrays[each.name][:samples] for each in session.inputs}
    return RuntimeContext(dataset_of(first, session.inputs))


def changed(model: Model, *, learn_scales: bool = False) -> list[str]:
    parameters, _ = find_parameters(model, torch.float32, learn_scales=learn_scales)
    return [
        each.constant.name
        for each in parameters
        if each.changed
        or each.array().tobytes() != each.constant.values.tobytes()
        or each.array().dtype != each.constant.dtype
    ]


@pytest.mark.parametrize("subject", WEIGHTS)
def test_weights_come_back_as_they_were(subject):
    model = io.load(folder_of(subject) / "model.onnx")
    parameters, left = find_parameters(model, torch.float32)
    assert len(parameters) == WEIGHTS[subject]
    assert left == {}
    assert changed(model) == []


@pytest.mark.parametrize("kind", QUANTIZED)
@pytest.mark.parametrize("subject", ["resnet20", "minilm"])
def test_integers_and_scales_come_back_as_they_were(subject, kind):
    folder = folder_of(subject)
    model = io.load(folder / "model.onnx")
    PassManager([QUANTIZED[kind]]).run(model, context_of(folder, 4))
    parameters, _ = find_parameters(model, torch.float32, learn_scales=True)
    assert sum(isinstance(each, IntegerParameter) for each in parameters) >= 18
    biases = [each.constant for each in parameters if each.constant.dtype == np.int32]
    assert sum(isinstance(each, BiasScale) for each in parameters) == len(biases)
    assert changed(model, learn_scales=True) == []


def test_integers_with_more_digits_than_a_float_come_back() -> None:
    model = model_of(
        opset(13)
        + """
        agraph (float[n,2] x) => (float[n,3] y) <float s = {1e-7}, float bs = {1e-9}> {
            w = DequantizeLinear(wq, s)
            b = DequantizeLinear(bq, bs)
            y = Gemm(x, w, b)
        }""",
        wq=np.array([[1, 2, 3], [-4, 5, 6]], np.int8),
        bq=np.array([(1 << 31) - 1, -(1 << 31), (1 << 24) + 1], np.int32),
    )
    assert changed(model) == []
    parameters, _ = find_parameters(model, torch.float32)
    bias = next(each for each in parameters if each.constant.name == "bq")
    with torch.no_grad():
        bias.master += 1.0  # beyond the range above: it saturates
    assert bias.array().tolist() == [(1 << 31) - 1, -1147483648, 1016777216]


# A decoder of 135 million weights takes minutes for what the others show.
@pytest.mark.parametrize("subject", sorted(WEIGHTS.keys() - {"smollm2", "efficientnet-lite0"}))
def test_no_steps_change_no_byte(subject):
    folder = folder_of(subject)
    model = io.load(folder / "model.onnx")
    PassManager([]).run(model)  # sorts it
    before = io.to_bytes(model)
    pass_: Pass = FineTune(steps=0, batch_size=2)
    report = PassManager([pass_]).run(model, context_of(folder, 3))[0]
    assert not report.modified
    assert io.to_bytes(model) == before
    (skip,) = report.skips
    assert skip.reason.startswith("training made nothing better: loss on held-out samples ")
    assert "all steps were done (step 0 of 0)" in skip.reason
