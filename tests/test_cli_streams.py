"""Standard streams as they may be: closed, full, or of an encoding that knows few letters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onnxcompress.runtime.child import module_path
from tests.test_cli import MODEL

RUN = f"{sys.executable} -m onnxcompress"


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(module_path()), **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("> /dev/full", 1, "standard output: cannot be written: No space left on device"),
        ("| head -1 > first; test -s first", 0, ""),
    ],
)
def test_streams_that_take_nothing(redirected: str, code: int, told: str, tmp_path: Path) -> None:
    done = shell(f"{RUN} inspect {MODEL} --json report.json {redirected}", tmp_path)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False)
    assert told in done.stderr.decode()
    # Nothing that is printed ends in a file that was opened meanwhile.
    assert (tmp_path / "report.json").read_text().startswith("{")


@pytest.mark.slow
def test_letters_that_the_terminal_does_not_know(tmp_path: Path) -> None:
    name = "mö✓.onnx"
    shutil.copy(MODEL, tmp_path / name)
    done = shell(f"{RUN} inspect {name}", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"m\xf6\u2713.onnx" in done.stdout
    done = shell(f"{RUN} inspect x{name}", tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert rb"xm\xf6\u2713.onnx: cannot be read" in done.stderr
