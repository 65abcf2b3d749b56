"""What a run needs while it lasts, and what runs that were killed left behind.

Who works with a temporary file or folder holds a lock on it, which the system lets go of when the
process ends, however it ends. What nobody holds, though it bears our name, is nobody's.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "onnxcompress-"
_LOCK: Final = "lock"
# Between making a file and holding it there is a moment in which it looks abandoned.
_YOUNG_SECONDS: Final = 60.0


@contextmanager
def working_folder() -> Iterator[Path]:
    """A temporary folder that is gone afterwards; those of runs that were killed go before.

    Raises:
        OSError: there is no room, or no temporary folder.
    """
    remove_abandoned(Path(tempfile.gettempdir()), f"{_PREFIX}*")
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        with (folder / _LOCK).open("xb") as lock:
            hold(lock)
            yield folder


def hold(file: IO[bytes]) -> None:
    """Marks a file as in use until it is closed, on systems that have such a lock."""
    _locked(file.fileno())


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Removes files and working folders of ours that nobody holds any more.

    Only what belongs to this user, is a minute old and is no link. What cannot be removed stays.

    Args:
        folder: where to look, not below it.
        pattern: of their names, with `*`.
    """
    if sys.platform == "win32":  # without locks nobody knows what is abandoned
        return
    with suppress(OSError):
        for path in folder.glob(pattern):
            with suppress(OSError):
                if _is_abandoned(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_abandoned(path: Path) -> bool:
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode) or about.st_uid != os.getuid():
        return False
    if time.time() - about.st_mtime < _YOUNG_SECONDS:
        return False
    held = path / _LOCK if stat.S_ISDIR(about.st_mode) else path
    descriptor = os.open(held, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether the lock of an open file could be had."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
