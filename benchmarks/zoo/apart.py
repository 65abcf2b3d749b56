"""Calls functions in processes of their own, so that one that hangs or crashes ends no other."""

from __future__ import annotations

import logging
import multiprocessing
import os
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

T = TypeVar("T")

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_PROCESSES: Final[Any] = multiprocessing.get_context(_METHOD)
if _METHOD == "forkserver":  # what takes the longest is imported once for all
    _PROCESSES.set_forkserver_preload(["benchmarks.zoo.table", "transformers", "onnxscript"])

_LENGTH: Final = 300
"""Characters of a failure."""


class ApartError(Exception):
    """The function raised, crashed or took too long; the message is one line."""


def apart(function: Callable[..., T], *arguments: Any, timeout: float) -> T:
    """What a function of a module gives, called in a fresh process; what it prints is dropped.

    Raises:
        ApartError: it gave nothing.
    """
    receiver, sender = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_child, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise ApartError(f"took more than {timeout:.0f} s")
        failure, value = receiver.recv()
    except EOFError:
        process.join()
        raise ApartError(f"the process ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if failure:
        raise ApartError(failure)
    found: T = value
    return found


def _child(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # torch prints whole graphs past sys.stdout
        os.dup2(nowhere, stream)
    try:
        sender.send(("", function(*arguments)))
    except Exception as fault:
        sender.send((_told(fault), None))


def _told(fault: BaseException) -> str:
    """The first line of the exception that others were raised from."""
    while fault.__cause__ is not None:
        fault = fault.__cause__
    lines = str(fault).strip().splitlines() or ["no message"]
    return f"{type(fault).__name__}: {lines[0]}"[:_LENGTH]
