"""Signals that ask a run to end: it ends as with Ctrl-C, and says so in its exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

# `docker stop`, `timeout`, SLURM and systemd; a terminal that closes. Not every system has both.
_NAMES: Final = ("SIGTERM", "SIGHUP")
_FIRST_CODE: Final = 128


@dataclass
class Received:
    """The signal that asked for an end, if one did."""

    number: int = 0

    @property
    def code(self) -> int:
        """The exit code that shells give a program which a signal ended; 0 without one."""
        return _FIRST_CODE + self.number if self.number else 0

    @property
    def name(self) -> str:
        """As in `SIGTERM`."""
        return signal.Signals(self.number).name


@contextmanager
def ended_by_signals() -> Iterator[Received]:
    """Inside, a signal that asks for an end raises KeyboardInterrupt, as Ctrl-C does.

    So all that is promised for Ctrl-C holds for it: temporary files go, and a training keeps the
    best weights so far. Signals that are ignored stay so (`nohup`). Outside the main thread, where
    Python handles no signals, nothing changes.
    """
    received = Received()

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        received.number = number
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for each in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            if signal.getsignal(each) is not signal.SIG_IGN:
                before[each] = signal.signal(each, end)
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
