"""Modules of ours that run in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parents[1]

# The child's own path is replaced before it imports anything that is not part of Python.
_START: Final = (
    "import json, runpy, sys; "
    "sys.path[:] = json.loads(sys.argv[1]); "
    "sys.argv = sys.argv[2:]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def run_module(
    module: str, arguments: Sequence[str], *, timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs a module as a program, and captures what it writes.

    It finds modules where this process does, except in the current folder: a `numpy.py` beside a
    model that was downloaded is not ours to run. The main program of this process is not run
    again, so that scripts need no guard and notebooks work.

    Args:
        module: its full name.
        arguments: what it is given.
        timeout_seconds: how long it may take.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was ended.
        OSError: no process could be started.
    """
    command = [sys.executable, "-I", "-c", _START, json.dumps(module_path()), module, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )


def module_path() -> list[str]:
    """Where this process finds modules, in its order, without the current folder.

    The folder of this package comes last even if that is the current one, or is found through a
    hook of an editable installation.
    """
    here = Path.cwd()
    elsewhere = [each for each in sys.path if each and Path(each).resolve() != here]
    return [*elsewhere, str(_PACKAGE.parent)]
