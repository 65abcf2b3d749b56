"""Nothing but the library's own errors leaves it."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

import onnxcompress
from onnxcompress.api_errors import as_own, own_errors
from onnxcompress.errors import (
    DataError,
    InternalError,
    ModelError,
    OnnxCompressError,
    OutputError,
    RecipeError,
    ResourceError,
)
from onnxcompress.files import check_outputs, require_space
from onnxcompress.recipe import Recipe
from onnxcompress.report.json import read_sensitivity
from tests.test_cli import MODEL

LONG = "a" * 300


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (MemoryError(), ResourceError, "out of memory"),
        (RecursionError("deep"), ResourceError, "nests deeper"),
        (OSError(errno.EACCES, "Permission denied", "x.bin"), ResourceError, "x.bin: Permission"),
        (OSError(errno.ENOSPC, "No space left"), ResourceError, "no space is left.*TMPDIR"),
        (IndexError("list index\nout of range"), InternalError, "^internal error: IndexError: "),
        (ValueError("embedded null byte"), ResourceError, "holds a null byte"),
        (DataError("as it is"), DataError, "^as it is$"),
    ],
)
def test_what_becomes_of_a_fault(
    fault: Exception, kind: type[OnnxCompressError], told: str
) -> None:
    @own_errors
    def fails() -> None:
        raise fault

    with pytest.raises(kind, match=told) as caught:
        fails()
    assert "\n" not in str(caught.value)
    assert caught.value is fault or caught.value.__cause__ is fault
    assert type(as_own(fault)) is kind


def test_wrong_calls_and_interrupts_pass() -> None:
    @own_errors
    def fails(fault: BaseException) -> None:
        raise fault

    for kind in (TypeError, KeyboardInterrupt):
        with pytest.raises(kind):
            fails(kind())


def test_names_that_no_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for path in (LONG, "loop", "loop/m.onnx", "no\0name"):
        with pytest.raises(OnnxCompressError):
            onnxcompress.load(path)
        with pytest.raises(OnnxCompressError):
            onnxcompress.inspect_model(path)
        with pytest.raises(OnnxCompressError):
            onnxcompress.save(onnxcompress.load(MODEL), path)
        with pytest.raises(OnnxCompressError):
            onnxcompress.compress(MODEL, path)
        with pytest.raises(OnnxCompressError):
            onnxcompress.compress(MODEL, "out.onnx", data=path)
        with pytest.raises(OnnxCompressError):
            Recipe.load(path)
        with pytest.raises(OnnxCompressError):
            read_sensitivity(path)
    with pytest.raises(OutputError, match="loop"):
        check_outputs([Path("loop")], [])
    assert [each.name for each in tmp_path.iterdir()] == ["loop"]


def test_files_that_nest_without_end(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    for text in ("a = " + "[" * 5000 + "]" * 5000, "a = " + "{b=" * 3000 + "1" + "}" * 3000):
        deep.write_text(text)
        with pytest.raises(RecipeError, match=r"deep: not TOML of ours: it nests too deeply"):
            Recipe.load(deep)
    for text in ("[" * 100_000, '{"nodes":' * 100_000, '{"file_bytes":[' * 100_000):
        deep.write_text(text)
        with pytest.raises(DataError, match="deep: not a sensitivity report"):
            read_sensitivity(deep)


def test_data_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the current folder, with whatever lies there."""
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", image=np.zeros((4, 1, 28, 28), np.float32))
    for options in ({"data": ""}, {"data": "data.npz", "training": ""}):
        with pytest.raises(OnnxCompressError, match="empty name"):
            onnxcompress.compress(MODEL, "out.onnx", **options)  # type: ignore[arg-type]


def test_room_is_asked_for_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_space(tmp_path, 1, "it")
    with pytest.raises(OutputError, match=r"it may take 1,152,921,504,606,846,976 MiB, and"):
        require_space(tmp_path, 1 << 80, "it")
    with pytest.raises(OutputError, match="nowhere"):
        require_space(tmp_path / "nowhere", 1, "it")
    monkeypatch.setattr("onnxcompress.search.compress._CANDIDATES", 1 << 60)
    with pytest.raises(OutputError, match=r"temporary files \(see TMPDIR\) may take"):
        onnxcompress.compress(MODEL, tmp_path / "out.onnx")


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """onnxruntime takes UTF-8 alone; the file itself is read all the same."""
    path = tmp_path / "m\udcff.onnx"
    path.write_bytes(MODEL.read_bytes())
    assert onnxcompress.load(path).parameters > 0
    with pytest.raises(OnnxCompressError, match="no UTF-8"):
        onnxcompress.compress(path, tmp_path / "out.onnx")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        onnxcompress.load(tmp_path)
