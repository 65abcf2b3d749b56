"""Writing a text file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from onnxcompress.errors import OutputError


def check_regular(path: Path) -> None:
    """Refuses to write where something else than a plain file stands.

    What is written whole takes the place of what is there, and a device would be gone.

    Raises:
        OutputError: a device, a pipe, a socket or a folder is there.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: is a device or a pipe, not a file; name a file")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text; a file of that name is replaced once all is written.

    Raises:
        OutputError: the file cannot be written, or something else than a file is there.
    """
    path = Path(path)
    check_regular(path)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: cannot be written: {fault.strerror}") from fault
    finally:
        with suppress(OSError):  # it is not there, nor is perhaps its folder
            draft.unlink()
