"""What is written tensor by tensor is what protobuf would have written."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from onnxcompress.errors import OutputError
from onnxcompress.ir import elements, io, stream
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Model
from tests.helpers import exported, proto

TEXT = """g (bool c, float[2] x) => (float[2] y)
  <float[2] w = {1, 2}, float z = {3}, float[0] e = {}, string[1] s = {"a"}>
  {
    a = Mul(x, w)
    b = Add(a, z)
    y = If(c) <
      then_branch = t () => (float[2] t) <float[2] v = {5, 6}> { t = Add(b, v) },
      else_branch = f () => (float[2] f) <float[2] v = {7, 8}> { f = Add(b, v) }>
  }"""


def _model() -> Model:
    message = proto(TEXT)
    packed = np.array([1, -2, 3], ml_dtypes.int4)  # text of these is for later parsers of onnx
    message.graph.initializer.append(elements.from_array(packed, "n"))
    return import_model(message)


@pytest.fixture(autouse=True)
def _everything_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STREAMED_BYTES", 0)


def test_the_message_is_the_same(tmp_path: Path) -> None:
    model = _model()
    for constant in model.constants():
        constant.envelope = onnx.TensorProto(doc_string=f"about {constant.name}")
    path = tmp_path / "model.onnx"
    io.save(model, path)
    assert onnx.load(path) == exported(model)
    onnx.checker.check_model(path)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 31, (1 << 63) - 1])
def test_lengths(value: int) -> None:
    encoded = stream._varint(value)
    decoded = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded))
    assert decoded == value
    assert [byte >> 7 for byte in encoded] == [1] * (len(encoded) - 1) + [0]


def test_a_message_beyond_the_limit_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model()
    size = len(exported(model).SerializeToString())
    monkeypatch.setattr(stream, "MESSAGE_LIMIT", size)
    io.save(model, tmp_path / "fits.onnx")
    monkeypatch.setattr(stream, "MESSAGE_LIMIT", size - 1)
    with pytest.raises(OutputError, match="2 GiB"):
        io.save(model, tmp_path / "too_large.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["fits.onnx"]
