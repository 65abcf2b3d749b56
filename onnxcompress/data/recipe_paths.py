"""Paths that recipes name. A recipe may come from anyone, so they stay in the current folder."""

from __future__ import annotations

import os
from pathlib import Path

from onnxcompress.errors import DataError


def inside_current_folder(path: str | os.PathLike[str], what: str) -> Path:
    """The path, if it leads to a place below the current folder.

    Args:
        path: as the recipe has it.
        what: it is for, in words.

    Raises:
        DataError: it lies elsewhere.
    """
    folder = Path.cwd().resolve()
    if "\0" in str(path) or not Path(path).resolve().is_relative_to(folder):
        raise DataError(
            f"{path}: lies outside {folder}, where files that recipes name must be ({what})"
        )
    return Path(path)
