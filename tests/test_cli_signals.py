"""A run that is asked to end, ends: with a message, its exit code, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onnxcompress import cli, cli_signals
from onnxcompress.runtime.child import module_path

# Says when the search has begun, and then waits to be ended.
WAITING = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
signal.signal(signal.SIGINT, signal.default_int_handler)  # and in the background
sys.path[:] = {path}
from onnxcompress.search import judge
from onnxcompress import cli
def wait(*_, **__):
    print("waiting", flush=True)
    time.sleep(60)
judge.Judge.latencies = wait
sys.exit(cli.run(["compress", {model!r}, "-o", {output!r}]))
"""
ASSETS = Path(cli.__file__).parent / "demo_assets"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_search_and_leaves_nothing(name: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (model,) = ASSETS.glob("*.onnx")
    script = WAITING.format(path=module_path(), model=str(model), output=str(tmp_path / "out.onnx"))
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    while "waiting" not in (line := child.stdout.readline()):
        assert line, child.communicate()
    assert list((tmp_path / "tmp").glob("onnxcompress-*"))
    child.send_signal(getattr(signal, name))
    _, errors = child.communicate(timeout=60)
    told = "interrupted" if name == "SIGINT" else f"ended by {name}"
    assert f"onnxcompress: {told}" in errors
    assert child.returncode == code
    assert list((tmp_path / "tmp").glob("onnxcompress-*")) == []
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_what_is_ignored_stays_ignored_and_handlers_come_back() -> None:
    own = signal.getsignal(signal.SIGTERM)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cli_signals.ended_by_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received.code == 0
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
            assert (received.code, received.name) == (143, "SIGTERM")
        assert signal.getsignal(signal.SIGTERM) == own
    finally:
        signal.signal(signal.SIGHUP, before)


def test_work_that_a_signal_cut_short_but_that_was_kept_ends_with_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a training that keeps its best weights and lets the run go on."""

    def passes(_: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            return cli.DONE
        return cli.ERROR

    monkeypatch.setattr(cli, "_passes", passes)
    assert cli.run(["passes"]) == 143
