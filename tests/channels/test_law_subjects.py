"""The law on real models."""

import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from tests.conftest import SUBJECTS

from .law import try_law

NAMES = (
    "digits",
    "efficientnet-lite0",
    "minilm",
    "orientation",
    "resnet20",
    "speaker-encoder",
    "text-line",
)


@pytest.mark.parametrize("name", NAMES)
def test_stripping_changes_no_output(name: str) -> None:
    folder = SUBJECTS / name
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{name} was not fetched: python -m benchmarks.subjects fetches it")
    path = folder / "model.onnx"
    data = load_dataset(str(folder / "test.npz"), Session(path).inputs)
    feeds = [next(data.take(range(count)).batches(count)).feeds for count in (1, 3)]
    for seed in range(1 if path.stat().st_size > 50_000_000 else 2):
        model = io.load(path)
        outcome = try_law(model, feeds, seed=seed, context=RuntimeContext(data.take(range(4))))
        assert outcome.holds, outcome
        assert outcome.after < 0.95 * outcome.before, outcome
