"""What the passes for accuracy are worth on real models."""

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import PassManager
from onnxcompress.passes import CorrectBias, EqualizeChannels, QuantizeStatic, RoundAdaptively
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP

from .support import Array, sqnr

STATIC = QuantizeStatic(per_channel=False)
RECIPES: dict[str, tuple[Pass, ...]] = {
    "plain": (STATIC,),
    "bias": (STATIC, CorrectBias()),
    "rounding": (RoundAdaptively(per_channel=False, sweeps=4), STATIC),
}


@pytest.mark.parametrize("subject", ["resnet20", "efficientnet-lite0"], indirect=True)
def test_per_tensor_int8_keeps_the_accuracy_of_a_convolutional_network(subject: Path) -> None:
    inputs = Session(subject / "model.onnx").inputs
    calibration = load_dataset(str(subject / "calibration.npz"), inputs).take(range(16))
    test = load_dataset(str(subject / "test.npz"), inputs).take(range(100))
    batch = next(test.batches(100))
    assert batch.labels is not None

    def scores(model: Model) -> Array:
        return next(iter(Session(io.to_bytes(model)).run(batch.feeds).values()))

    context = RuntimeContext(calibration)
    cleaned = io.load(subject / "model.onnx")
    PassManager(CLEAN_UP).run(cleaned, context)
    expected = scores(cleaned)
    equalized = clone(cleaned)
    report = PassManager([EqualizeChannels()]).run(equalized, context)[0]
    assert report.modified
    assert sqnr(expected, scores(equalized)) > 100  # what float32 itself can tell

    found = {}
    for name, passes in RECIPES.items():
        model = clone(cleaned)
        PassManager(passes).run(model, context)
        found[name] = scores(model)
    noise = {name: sqnr(expected, values) for name, values in found.items()}
    # A twentieth of the noise's power at least: what bias leaves is the part that is no mean.
    assert min(noise["bias"], noise["rounding"]) > noise["plain"] + 0.22
    hits = [int(np.sum(each.argmax(1) == batch.labels)) for each in (expected, found["rounding"])]
    assert hits[0] - hits[1] <= 2
