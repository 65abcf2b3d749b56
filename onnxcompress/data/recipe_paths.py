"""Paths that recipes name. A recipe may come from anyone, so they stay in the current folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from onnxcompress.errors import DataError

_MOST_BYTES: Final = 2 << 30


@dataclass(frozen=True)
class _File:
    """Marks an option that names a file."""


RecipePath = Annotated[str, _File()]
"""The type of every option of a pass that is a path; it is read by `inside_current_folder`."""


def inside_current_folder(
    path: str | os.PathLike[str], what: str, *, most_bytes: int = _MOST_BYTES
) -> Path:
    """The path, if it leads to a place below the current folder and to a plain file or nothing.

    Args:
        path: as the recipe has it.
        what: it is for, in words.
        most_bytes: a larger file is refused.

    Raises:
        DataError: it lies elsewhere, is no plain file, or is too large.
    """
    folder = Path.cwd().resolve()
    try:
        found = Path(path).resolve()
        if not found.is_relative_to(folder):
            raise DataError(
                f"{path}: lies outside {folder}, where files that recipes name must be ({what})"
            )
        if found.exists() and not found.is_file():
            raise DataError(f"{path}: is no plain file ({what})")
        if found.exists() and found.stat().st_size > most_bytes:
            raise DataError(f"{path}: is larger than {most_bytes / (1 << 20):,.0f} MiB ({what})")
    except (OSError, RuntimeError, ValueError) as fault:  # a circle of links, a name too long
        raise DataError(f"{path!r}: is no path of a file ({what}): {fault}") from fault
    return Path(path)
