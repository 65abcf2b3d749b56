"""The program works in a child: whatever becomes of that is told in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from onnxcompress import watching
from onnxcompress.runtime.child import module_path
from onnxcompress.supervisor import supervised

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

START = """
import os, signal, sys, time
sys.path[:] = {path}
from onnxcompress import watching
from onnxcompress.supervisor import supervised
def work():
    {work}
sys.exit(supervised(work))
"""


def started(work: str) -> subprocess.Popen[str]:
    """A program whose work this is."""
    return subprocess.Popen(
        [sys.executable, "-c", START.format(path=module_path(), work=work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(work: str) -> tuple[int, str]:
    """Its exit code, and what it wrote to standard error."""
    program = started(work)
    _, errors = program.communicate(timeout=60)
    return program.returncode, errors


@pytest.mark.parametrize(
    ("work", "code", "told"),
    [
        ("return 3", 3, ""),
        ("sys.exit(2)", 2, ""),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "onnxcompress: ended by SIGTERM\n"),
        ("os.abort()", 1, "onnxcompress: error: the process was ended by SIGABRT\n"),
        (
            "watching.Step('loading m.onnx').__enter__(); os.kill(os.getpid(), signal.SIGSEGV)",
            1,
            "onnxcompress: error: the process was ended by SIGSEGV while loading m.onnx\n",
        ),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            1,
            "onnxcompress: error: the process was ended by SIGKILL; perhaps it wanted more memory "
            "than there is\n",
        ),
        (
            "watching.set_deadline(0.5, 'm.onnx')\n"
            "    with watching.Step('running the model'): time.sleep(60)",
            1,
            "onnxcompress: error: m.onnx: running the model took over 0.5 s and was ended "
            "(--deadline)\n",
        ),
        (  # a deadline is for each step
            "watching.set_deadline(0.6, 'm.onnx')\n"
            "    for _ in range(4):\n"
            "        with watching.Step('running m.onnx'): time.sleep(0.3)\n"
            "    return 7",
            7,
            "",
        ),
    ],
)
def test_how_work_ends(work: str, code: int, told: str) -> None:
    assert ended(work) == (code, told)


def test_signals_reach_the_work_and_its_code_comes_back() -> None:
    program = started(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); print('up', flush=True)\n"
        "    time.sleep(60)"
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=60)
    assert program.returncode == 143


def test_work_ends_with_a_program_that_is_killed() -> None:
    program = started("print(os.getpid(), flush=True); time.sleep(60)")
    assert program.stdout is not None
    worker = int(program.stdout.readline())
    program.kill()
    program.communicate(timeout=60)
    until = time.monotonic() + 30
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != "zombie":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_processes_of_the_work_end_with_it() -> None:
    program = started(
        "import subprocess; watching.set_deadline(1, ''); "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    print(child.pid, flush=True)\n"
        "    with watching.Step('x'): time.sleep(60)"
    )
    output, _ = program.communicate(timeout=60)
    assert program.returncode == 1
    assert not psutil.pid_exists(int(output)) or psutil.Process(int(output)).status() == "zombie"


def test_steps_on_the_board() -> None:
    board = watching.Board()
    assert (board.step, board.seconds, board.overrun) == ("", 0.0, False)
    board.set_deadline(1e-9)
    board.begin("läuft".encode())
    assert board.step == "läuft"
    assert board.seconds > 0
    assert board.overrun
    board.end()
    assert (board.seconds, board.overrun) == (0.0, False)
    watching.be_watched(board)
    try:
        with watching.Step("ü" * 10_000):
            assert set(board.step) == {"ü", "\N{REPLACEMENT CHARACTER}"} or set(board.step) == {"ü"}
            assert board.seconds > 0
    finally:
        watching.be_watched(None)


def test_where_there_is_no_fork_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    try:
        assert supervised(lambda: 5 if watching._watched is not None else 0) == 5
    finally:
        watching.be_watched(None)


def _endless(path: Path) -> None:
    """A model of 400 bytes that turns 2^40 times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Neg", ["s"], ["t"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, [1]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [helper.make_tensor("n", TensorProto.INT64, [], [1 << 40])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.mark.parametrize("command", [["compress", "-o", "out.onnx"], ["bench"], ["inspect"]])
def test_a_model_that_never_answers(command: list[str], tmp_path: Path) -> None:
    _endless(tmp_path / "endless.onnx")
    name, *options = command
    done = subprocess.run(
        [sys.executable, "-m", "onnxcompress", name, "endless.onnx", *options, "--deadline", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(module_path())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "endless.onnx" in done.stderr
    assert done.stderr.endswith("took over 1 s and was ended (--deadline)\n")
    assert [each.name for each in tmp_path.iterdir()] == ["endless.onnx"]


def test_the_process_that_watches_loads_little() -> None:
    """What it held, the work would hold twice; and threads do not survive a fork."""
    script = (
        "import json, sys, onnxcompress.__main__; "
        "print(json.dumps([each for each in ('numpy', 'onnx', 'onnxruntime', 'psutil', 'rich') "
        "if each in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {module_path()}; {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []
