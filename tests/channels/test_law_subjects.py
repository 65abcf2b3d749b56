"""The law on real models."""

import pytest

from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.pass_manager import PassManager
from onnxcompress.recipe import parse_pass
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP
from tests.conftest import SUBJECTS

from .law import try_law

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize(
    ("name", "quantize"),
    [
        ("resnet20", "quantize-static"),
        ("resnet20", "quantize-weights"),
        ("resnet20", "quantize-fixed-point"),
        ("digits", "quantize-static:per_channel=false"),
        ("orientation", "quantize-static"),
    ],
)
def test_stripping_a_quantized_graph_changes_no_output(name: str, quantize: str) -> None:
    folder = SUBJECTS / name
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{name} was not fetched: python -m benchmarks.subjects fetches it")
    data = load_dataset(str(folder / "test.npz"), Session(folder / "model.onnx").inputs)
    feeds = [next(data.take(range(count)).batches(count)).feeds for count in (1, 3)]
    context = RuntimeContext(data.take(range(8)))
    model = io.load(folder / "model.onnx")
    PassManager([*CLEAN_UP, parse_pass(quantize)]).run(model, context)
    outcome = try_law(model, feeds, seed=0, context=context)
    assert outcome.holds, outcome
    assert outcome.after < 0.8 * outcome.before, outcome
