from pathlib import Path

import numpy as np
import pytest

from onnxcompress import inspect_model
from onnxcompress.ir import io
from onnxcompress.measure.untrained import is_noise, untrained_notes
from tests.passes.support import model_of

DIGITS = Path(__file__).parents[2] / "onnxcompress" / "demo_assets" / "digits.onnx"
RNG = np.random.default_rng(0)
TEXT = "g (float[N, 64] x) => (float[N, 80] y) { y = MatMul(x, w) }"


@pytest.mark.parametrize("shape", [(32, 32), (64, 80), (512, 48)])
@pytest.mark.parametrize("seed", range(5))
def test_values_as_they_are_drawn(shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert is_noise(rng.standard_normal(shape))
    assert is_noise(rng.uniform(-0.1, 0.1, shape))
    assert not is_noise(rng.standard_normal(shape) * rng.uniform(0.5, 1.5, (shape[0], 1)))
    assert not is_noise(rng.standard_normal((shape[0], 4)) @ rng.standard_normal((4, shape[1])))
    assert not is_noise(np.zeros(shape))


def test_a_model_that_was_not_trained_is_noticed(tmp_path: Path) -> None:
    model = model_of(TEXT, w=RNG.standard_normal((64, 80)).astype(np.float32))
    (note,) = untrained_notes(model)
    assert note.startswith("the weights look like random numbers")
    io.save(model, tmp_path / "m.onnx")
    assert note in inspect_model(tmp_path / "m.onnx").notes


def test_a_trained_model_is_not() -> None:
    assert untrained_notes(io.load(DIGITS)) == ()
    assert untrained_notes(model_of(TEXT, w=np.eye(64, 80, dtype=np.float32))) == ()
