"""A model in memory reaches onnxruntime by bytes or by a file, and it makes no difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.errors import OutputError, SessionError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.runtime import loading
from onnxcompress.runtime.loading import session_of
from onnxcompress.runtime.session import Session, SessionSettings
from tests.helpers import parse

X = np.arange(512, dtype=np.float32)
TWOS = ", ".join(["2"] * 512)
TEXT = f"g (float[512] x) => (float[512] y) <float[512] w = {{{TWOS}}}> {{ y = Add(x, w) }}"


def _check(session: Session) -> None:
    np.testing.assert_array_equal(session.run({"x": X})["y"], X + 2)


def test_a_large_model_goes_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []
    save = io.save

    def watched(model: Model, path: Path, *, external: bool) -> list[Path]:
        folders.append(path.parent)
        return save(model, path, external=external)

    monkeypatch.setattr(loading, "MESSAGE_BYTES", 0)
    monkeypatch.setattr(io, "save", watched)
    monkeypatch.setattr(io, "to_bytes", None)
    session = session_of(parse(TEXT), SessionSettings())
    assert len(folders) == 1
    assert not folders[0].exists()
    _check(session)


def test_a_small_model_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "save", None)
    _check(session_of(parse(TEXT), SessionSettings()))


def test_without_disk_space_the_bytes_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(loading, "MESSAGE_BYTES", 0)
    monkeypatch.setattr(io, "save", full)
    _check(session_of(parse(TEXT), SessionSettings()))


def test_an_error_does_not_name_the_temporary_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MESSAGE_BYTES", 0)
    with pytest.raises(SessionError, match=r"cannot load the model: ") as caught:
        session_of(parse(TEXT.replace("Add", "Nonsense")), SessionSettings())
    assert "onnxcompress-" not in str(caught.value)
