"""Standard output and error as they may be: closed, or of an encoding that knows few letters."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


def hold_descriptors() -> None:
    """Opens nothing in the place of a standard stream that is closed.

    Else the next file that is opened would be it, and what is printed would go there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def print_everywhere() -> None:
    """Makes sure that printing does not fail: names of nodes and files may hold any letter."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when the program began
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
