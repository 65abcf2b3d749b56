"""Runs a function in a fresh process and tells what it took there."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from onnxcompress.measure.memory_probe import peak_resident_bytes

T = TypeVar("T")


class ChildError(Exception):
    """The function failed, or its process was killed; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What a function gave and what its process took.

    Attributes:
        value: what the function returned.
        seconds: wall time of the call; imports at the top of its module are not in it.
        peak_bytes: the most memory the process ever held, mapped pages of files included.
    """

    value: T
    seconds: float
    peak_bytes: int


def run_in_child(function: Callable[..., T], *arguments: Any) -> Outcome[T]:
    """Calls a function of a module, with arguments that can be pickled, in a process of its own.

    Raises:
        ChildError: it failed there.
    """
    spawn = multiprocessing.get_context("spawn")  # a forked child would begin with our memory
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        try:
            return pool.submit(_measured, function, arguments).result()
        except BrokenProcessPool:
            raise ChildError("the process was killed, perhaps for want of memory") from None
        except Exception as fault:
            raise ChildError(first_line(fault)) from fault


def first_line(fault: Exception) -> str:
    """What failed, in one line."""
    line = (str(fault).strip().splitlines() or ["no message"])[0]
    return f"{type(fault).__name__}: {line}"


def _measured(function: Callable[..., T], arguments: tuple[Any, ...]) -> Outcome[T]:
    began = time.perf_counter()
    value = function(*arguments)
    seconds = time.perf_counter() - began
    return Outcome(value=value, seconds=seconds, peak_bytes=peak_resident_bytes())
