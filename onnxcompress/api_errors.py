"""Where the library ends: whatever fails inside, only errors of `errors` leave it.

Models, recipes and data come from anywhere. What nobody foresaw of them (a name too long for a
file, tables nested 5,000 deep, a size that no memory holds) reaches the caller as one line too,
with the cause chained.
"""

from __future__ import annotations

import errno
import functools
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

from onnxcompress.data.memory import memory_limit
from onnxcompress.errors import InternalError, OnnxCompressError, ResourceError

_GIBIBYTE: Final = 1 << 30
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_P = ParamSpec("_P")
_R = TypeVar("_R")


def own_errors(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function of the API that raises nothing but `OnnxCompressError`.

    A wrong call (TypeError) and what only asks for an end (KeyboardInterrupt) pass.
    """

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except (OnnxCompressError, TypeError):
            raise
        except Exception as fault:
            raise as_own(fault) from fault

    return guarded


def as_own(fault: Exception) -> OnnxCompressError:
    """The library's own error that says what another one means."""
    if isinstance(fault, OnnxCompressError):
        return fault
    if isinstance(fault, MemoryError):
        return ResourceError(out_of_memory())
    if isinstance(fault, RecursionError):
        return ResourceError("it nests deeper than can be followed; is it a file of this kind?")
    if isinstance(fault, OSError):
        return ResourceError(_refused(fault))
    if isinstance(fault, ValueError) and str(fault) == "embedded null byte":
        return ResourceError("a name of a file holds a null byte")
    return InternalError(f"internal error: {type(fault).__name__}: {fault}".splitlines()[0])


def out_of_memory() -> str:
    """What to say where memory is wanted that there is not."""
    limit = memory_limit()
    bound = "" if limit is None else f" (at most {limit / _GIBIBYTE:.1f} GiB, --memory-limit)"
    return f"out of memory{bound}; use fewer or smaller samples, or a smaller model"


def _refused(fault: OSError) -> str:
    """What the system refused, and where."""
    place = f"{fault.filename}: " if fault.filename else ""
    if fault.errno not in _NO_ROOM:
        return f"{place}{fault.strerror or fault}"
    folder = tempfile.gettempdir()
    free = ""
    with suppress(OSError):
        free = f", which has {shutil.disk_usage(folder).free / _GIBIBYTE:.1f} GiB free"
    return (
        f"{place}no space is left; temporary files go to {folder}{free} (TMPDIR names another "
        "place)"
    )
