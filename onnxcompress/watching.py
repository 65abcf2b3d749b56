"""What onnxruntime does at the moment, written where a process that watches this one can read it.

A model that nobody vouches for can keep onnxruntime busy for ever, or make it crash: a few bytes
suffice for a Loop of 2^40 turns. Neither can be stopped from inside the call, so each call is
written on a board that `supervisor` watches from outside. Without one, this costs nothing.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import Final

_HEAD: Final = struct.Struct("<ddI")  # deadline in seconds, when the step began or 0, bytes of it
_DEADLINE: Final = struct.Struct("<d")
_BEGAN: Final = struct.Struct("<d")
_STEP: Final = struct.Struct("<I")
_LONGEST_STEP: Final = mmap.PAGESIZE - _HEAD.size


class Board:
    """A page that a process shares with those it forks: the step that runs, and since when.

    Attributes:
        subject: what the run is about, in the process that works; it stands before each step.
    """

    def __init__(self) -> None:
        self.subject = ""
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def set_deadline(self, seconds: float) -> None:
        """How long a step may take."""
        _DEADLINE.pack_into(self._page, 0, seconds)

    def begin(self, step: bytes) -> None:
        """A step begins; the time comes last, since that is what is watched."""
        _STEP.pack_into(self._page, _DEADLINE.size + _BEGAN.size, len(step))
        self._page[_HEAD.size : _HEAD.size + len(step)] = step
        _BEGAN.pack_into(self._page, _DEADLINE.size, time.monotonic())

    def end(self) -> None:
        """No step runs."""
        _BEGAN.pack_into(self._page, _DEADLINE.size, 0.0)

    @property
    def deadline(self) -> float:
        """How long a step may take, in seconds; 0 without a limit."""
        return float(_HEAD.unpack_from(self._page)[0])

    @property
    def seconds(self) -> float:
        """How long the step has run; 0 while there is none."""
        began = float(_HEAD.unpack_from(self._page)[1])
        return time.monotonic() - began if began else 0.0

    @property
    def step(self) -> str:
        """The step that runs, or ran last, as in `loading model.onnx`; empty before the first."""
        length = min(_HEAD.unpack_from(self._page)[2], _LONGEST_STEP)
        return bytes(self._page[_HEAD.size : _HEAD.size + length]).decode(errors="replace")

    @property
    def overrun(self) -> bool:
        """Whether the step has run for longer than it may."""
        return 0 < self.deadline < self.seconds


class Step:
    """Something that is watched while it runs, as in ``with step: ...``.

    Args:
        told: what it does, as it is to stand in a message: `loading model.onnx`.
    """

    def __init__(self, told: str) -> None:
        subject = "" if _watched is None else _watched.subject
        about = "" if subject in told else f"{subject}: "
        self._told = f"{about}{told}".encode(errors="replace")[:_LONGEST_STEP]

    def __enter__(self) -> None:
        if _watched is not None:
            _watched.begin(self._told)

    def __exit__(self, *_: object) -> None:
        if _watched is not None:
            _watched.end()


def be_watched(board: Board | None) -> None:
    """From now on, steps of this process are written on a board; None for no longer."""
    global _watched
    _watched = board


def set_deadline(seconds: float, subject: str) -> None:
    """How long each step of this process may take, where it is watched; 0 for no limit.

    Args:
        seconds: for each step.
        subject: what the run is about; it stands before each step.
    """
    if _watched is not None:
        _watched.subject = subject
        _watched.set_deadline(seconds)


_watched: Board | None = None
