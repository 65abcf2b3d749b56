"""`package.module:function`: code of the user's own, imported because the user named it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxcompress.errors import DataError

_SPEC = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")


def names_function(spec: str) -> bool:
    """Whether `spec` reads as `package.module:function`."""
    return _SPEC.fullmatch(spec) is not None


def import_function(spec: str) -> Callable[..., Any]:
    """Imports what `spec` names; modules in the current folder are found too, after all others.

    Raises:
        DataError: `spec` does not read so, the import fails, or what it names cannot be called.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise DataError(f"{spec!r} does not read as package.module:function")
    try:
        with current_folder_importable():
            module = importlib.import_module(match["module"])
    except Exception as fault:
        raise DataError(f"{spec}: importing it failed: {describe(fault)}") from fault
    function = getattr(module, match["function"], None)
    if not callable(function):
        raise DataError(f"{spec}: {match['module']} has no function {match['function']!r}")
    found: Callable[..., Any] = function
    return found


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Lets imports see the current folder, which an installed command would not."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def describe(fault: Exception) -> str:
    """An exception in one line."""
    return f"{type(fault).__name__}: {(str(fault).splitlines() or [''])[0]}"
