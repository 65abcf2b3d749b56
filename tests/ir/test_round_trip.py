"""The law of the graph layer: load, then save, changes nothing that a model computes."""

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import numpy_helper

from onnxcompress.errors import DataError, SessionError
from onnxcompress.ir import io
from onnxcompress.runtime.session import Session, SessionSettings
from tests.helpers import assert_same_outputs, random_feeds

DATA = Path(onnx.backend.test.__file__).parent / "data"
MODELS = sorted(DATA.rglob("*.onnx"))
PLAIN = SessionSettings(optimize=False, prepack=False)


def _wiring(path: Path) -> list[tuple[str, str, list[str], list[str]]]:
    """Nodes as they stand in the file, less Constant nodes whose output becomes an initializer."""
    graph = onnx.load(path).graph
    returned = {output.name for output in graph.output}
    return [
        (node.domain, node.op_type, list(node.input), list(node.output))
        for node in graph.node
        if node.op_type != "Constant" or returned.intersection(node.output)
    ]


def _stored_feeds(path: Path) -> dict[str, np.ndarray] | None:
    folder = path.parent / "test_data_set_0"
    inputs = onnx.load(path).graph.input
    if not all(value.type.HasField("tensor_type") for value in inputs):
        return None
    names = [value.name for value in inputs]
    files = [folder / f"input_{index}.pb" for index in range(len(names))]
    if not files or not all(file.is_file() for file in files):
        return None
    feeds = {}
    for name, file in zip(names, files, strict=True):
        feeds[name] = numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))
    return feeds


def test_onnx_ships_the_models_we_count_on() -> None:
    assert len(MODELS) >= 149


@pytest.mark.parametrize("path", MODELS, ids=lambda path: str(path.relative_to(DATA)))
def test_backend_models(path: Path, tmp_path: Path) -> None:
    model = io.load(path)
    saved = tmp_path / "saved.onnx"
    assert io.save(model, saved) == [saved]
    assert _wiring(saved) == _wiring(path)
    try:
        original = Session(path, PLAIN)
        feeds = _stored_feeds(path) or random_feeds(original)
        expected = original.run(feeds)
    except (SessionError, DataError):
        return  # onnxruntime cannot run the original, so structure is all there is to compare
    assert_same_outputs(expected, Session(saved, PLAIN).run(feeds))


def test_subjects(subject: Path, tmp_path: Path) -> None:
    path, saved = subject / "model.onnx", tmp_path / "saved.onnx"
    model = io.load(path)
    io.save(model, saved)
    original = Session(path, PLAIN)
    feeds = random_feeds(original)
    assert_same_outputs(original.run(feeds), Session(saved, PLAIN).run(feeds))
