"""Writing a text file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from onnxcompress.errors import OutputError


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text; a file of that name is replaced once all is written.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: cannot be written: {fault.strerror}") from fault
    finally:
        with suppress(OSError):  # it is not there, nor is perhaps its folder
            draft.unlink()
