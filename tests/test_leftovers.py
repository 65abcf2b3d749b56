"""What a run that was killed left behind goes with the next one, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from onnxcompress import leftovers
from onnxcompress.files import write_text
from onnxcompress.leftovers import remove_abandoned, working_folder
from onnxcompress.runtime.child import module_path

KILLED = """
import os, signal, sys
sys.path[:] = {path}
from onnxcompress.leftovers import working_folder
with working_folder() as folder:
    (folder / "model.onnx").write_text("large")
    print(folder, flush=True)
    {end}
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(leftovers, "_YOUNG_SECONDS", 0.0)


def _started(tmp_path: Path, end: str) -> tuple[subprocess.Popen[str], Path]:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(path=module_path(), end=end)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def test_a_working_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with working_folder() as folder:
        (folder / "a").touch()
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    child, folder = _started(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    child.communicate(timeout=60)
    assert (folder / "model.onnx").read_text() == "large"
    with working_folder() as own:
        assert list(tmp_path.iterdir()) == [own]


def test_a_run_that_lasts_keeps_its_folder(tmp_path: Path) -> None:
    child, folder = _started(tmp_path, "sys.stdin.read()")
    with working_folder() as own:
        assert set(tmp_path.iterdir()) == {own, folder}
        with working_folder() as inner:
            assert set(tmp_path.iterdir()) == {own, folder, inner}
    child.communicate("", timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_a_killed_run_go_when_their_folder_is_written_to(tmp_path: Path) -> None:
    (tmp_path / ".onnxcompress-0123456789abcdef.part").write_text("half a model")
    write_text(tmp_path / "a.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_is_young_a_link_or_not_ours_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_YOUNG_SECONDS", 60.0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "onnxcompress-link").symlink_to(elsewhere)
    (tmp_path / "onnxcompress-without-lock").mkdir()
    (tmp_path / "onnxcompress-young").touch()
    before = sorted(tmp_path.iterdir())
    past = time.time() - 3600
    for path in before:
        if path.name != "onnxcompress-young":
            os.utime(path, (past, past), follow_symlinks=False)
    remove_abandoned(tmp_path, "onnxcompress-*")
    assert sorted(tmp_path.iterdir()) == before
    assert (elsewhere / "lock").exists()
