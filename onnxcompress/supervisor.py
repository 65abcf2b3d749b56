"""Does the work in a process of its own, and says in one line how that ended if it ended badly.

onnxruntime runs what a model says. One that crashes it would take the message with it, and one
that never returns cannot be ended from inside. So the program forks before it loads anything: the
child does all the work, and the parent waits, passes signals on, and ends a child that overruns.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from onnxcompress.watching import Board, be_watched

_ERROR: Final = 1
_LOOK_EVERY_SECONDS: Final = 0.25
_FIRST_OF_SIGNALS: Final = 128
_PASSED_ON: Final = ("SIGTERM", "SIGHUP")
_PR_SET_PDEATHSIG: Final = 1


def supervised(work: Callable[[], int]) -> int:
    """Runs a function in a child process, or where there is no fork, watched by a thread.

    Args:
        work: what to do; it returns an exit code, or raises SystemExit.

    Returns:
        Its exit code; 128 and the signal's number where one asked it to end; 1 where it crashed,
        was killed or overran. What is no exit code of its own is told on standard error.
    """
    board = Board()
    if not hasattr(os, "fork"):
        threading.Thread(target=_end_overruns_of_this_process, args=(board,), daemon=True).start()
        be_watched(board)
        return work()
    # It is open as long as the child lives; whoever waits for its end needs no polling.
    alive, held = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(alive)
        _end_with(parent)
        be_watched(board)
        return work()
    os.close(held)
    return _watch(child, alive, board)


def _watch(child: int, alive: int, board: Board) -> int:
    """Waits for a child, and ends it where it overruns."""
    # Ctrl-C reaches both, and it is for the child to say what comes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _PASSED_ON:
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os.kill(child, number))
    while not select.select([alive], [], [], _LOOK_EVERY_SECONDS)[0]:
        if board.overrun:
            told = _overrun(board)
            _kill_with_children(child)
            os.waitpid(child, 0)
            return _failed(told)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code >= 0:
        return code
    if -code in _asking_for_an_end():  # it came before the work could heed it
        print(f"onnxcompress: ended by {signal.Signals(-code).name}", file=sys.stderr)
        return _FIRST_OF_SIGNALS - code
    return _failed(_crash(-code, board))


def _asking_for_an_end() -> set[int]:
    return {getattr(signal, name) for name in (*_PASSED_ON, "SIGINT")}


def _overrun(board: Board) -> str:
    return f"{board.step} took over {board.deadline:g} s and was ended (--deadline)"


def _crash(number: int, board: Board) -> str:
    """What to say of a process that a signal ended."""
    known = {each.value: each.name for each in signal.Signals}
    when = f" while {board.step}" if board.seconds else ""
    cause = "; perhaps it wanted more memory than there is" if number == signal.SIGKILL else ""
    return f"the process was ended by {known.get(number, f'signal {number}')}{when}{cause}"


def _failed(message: str) -> int:
    print(f"onnxcompress: error: {message}", file=sys.stderr)
    return _ERROR


def _kill_with_children(process: int) -> None:
    import psutil

    try:
        children = psutil.Process(process).children(recursive=True)
        for each in (psutil.Process(process), *children):
            each.kill()
    except psutil.NoSuchProcess:  # it ended just now
        return


def _end_with(parent: int) -> None:
    """Has the system end this process where its parent is killed, which can pass nothing on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before that was said
            os._exit(_ERROR)
        return

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_SECONDS)
        os._exit(_ERROR)

    threading.Thread(target=look, daemon=True).start()


def _end_overruns_of_this_process(board: Board) -> None:
    while not board.overrun:
        time.sleep(_LOOK_EVERY_SECONDS)
    _failed(_overrun(board))
    os._exit(_ERROR)
