"""Writing files whole or not at all; every file of ours is written here."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from onnxcompress.errors import OutputError
from onnxcompress.leftovers import hold, remove_abandoned

_MEBIBYTE: Final = 1 << 20
_DRAFT: Final = ".onnxcompress-"


def check_regular(path: Path) -> None:
    """Refuses to write where something else than a plain file stands.

    What is written whole takes the place of what is there, and a device would be gone.

    Raises:
        OutputError: a device, a pipe, a socket or a folder is there, or no file can have that name.
    """
    with _told(path):
        path.resolve()  # links that lead in a circle are told here
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is a device or a pipe, not a file; name a file")


@contextmanager
def written_whole(*targets: Path) -> Iterator[list[BinaryIO]]:
    """Opens drafts beside `targets`, and moves them there once the block has succeeded.

    Drafts have names that nobody can foresee, and are never opened through a link, so that two
    writers do not meet in one and a link laid in the folder leads nowhere. They are on the disk
    before they take the targets' places.

    Args:
        targets: files; the last is named where something fails.

    Raises:
        OutputError: something cannot be written, or something else than a file is at a target.
    """
    for target in targets:
        check_regular(target)
    # Not named after the target, whose name may be as long as names can be.
    drafts = [target.with_name(f"{_DRAFT}{secrets.token_hex(8)}.part") for target in targets]
    files: list[BinaryIO] = []
    try:
        with _told(targets[-1]):
            for draft in drafts:
                remove_abandoned(draft.parent, f"{_DRAFT}*.part")
                files.append(draft.open("xb"))
                hold(files[-1])
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
                file.close()
            _take_places(drafts, targets)
            for folder in {target.parent for target in targets}:
                _sync_folder(folder)
    finally:
        for file in files:
            with suppress(OSError):  # what a full disk did not take is written again, in vain
                file.close()
        for draft in drafts:
            with suppress(OSError):  # it is not there, nor is perhaps its folder
                draft.unlink()


def _take_places(drafts: Sequence[Path], targets: Sequence[Path]) -> None:
    """Moves all drafts to their targets or, where one cannot be moved, none.

    A model's weights beside it must not be there without the model that names them. A second name
    keeps what was at a target until all are in place.
    """
    undo: list[tuple[Path, Path | None]] = []
    olds: list[Path | None] = []
    try:
        for draft, target in zip(drafts, targets, strict=True):
            old = _second_name(target) if len(targets) > 1 and target.exists() else None
            olds.append(old)
            is_new = not target.exists()
            draft.replace(target)
            if is_new or old is not None:  # else the disk knows no second names
                undo.append((target, old))
    except OSError:
        for target, old in undo:
            target.unlink() if old is None else old.replace(target)
        raise
    finally:
        for old in filter(None, olds):
            with suppress(OSError):
                old.unlink()


def _second_name(path: Path) -> Path | None:
    """Another name of a file, or None where there can be none."""
    other = path.with_name(f"{_DRAFT}{secrets.token_hex(8)}.old")
    try:
        other.hardlink_to(path)
    except OSError:
        return None
    return other


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text; a file of that name is replaced once all is written.

    Raises:
        OutputError: the file cannot be written, or something else than a file is there.
    """
    with written_whole(Path(path)) as (file,):
        # What stands for bytes of a path that are no text has no UTF-8; JSON reads it like this.
        file.write(text.encode(errors="backslashreplace"))


def check_outputs(outputs: Sequence[Path], inputs: Iterable[Path]) -> None:
    """Finds out before hours of work whether what comes of them can be written after them.

    Args:
        outputs: files to write; they may exist already, and are replaced then.
        inputs: files that are read, gone through only where an output exists.

    Raises:
        OutputError: an output is one of the inputs or another output, by whatever name; something
            else than a file is there; its folder is missing or not writable; or no file can have
            such a name.
    """
    for place, output in enumerate(outputs):
        check_regular(output)
        if any(same_file(output, other) for other in outputs[:place]):
            raise OutputError(f"{output}: would be written twice; choose another name for one")
        if not output.parent.is_dir():
            raise OutputError(f"{output}: cannot be written: there is no folder {output.parent}")
        with _told(output), tempfile.TemporaryFile(dir=output.parent):
            pass
    there = [output for output in outputs if output.exists()]
    for source in inputs if there else ():
        for output in there:
            if same_file(output, source):
                raise OutputError(f"{output}: is the input itself; choose another output")


def require_space(folder: Path, needed: int, what: str) -> None:
    """Finds out before the work whether a disk has room for what comes of it.

    Raises:
        OutputError: it has not; names the folder, and how much is free.
    """
    with _told(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{folder}: {what} may take {needed / _MEBIBYTE:,.0f} MiB, and {free / _MEBIBYTE:,.0f} "
            "MiB are free there"
        )


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file: by name, by link, or by a second name of it on disk."""
    try:
        if one.resolve() == other.resolve():
            return True
        return one.samefile(other)
    except (OSError, RuntimeError):  # one is not there yet, or its links go round in a circle
        return False


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system refuses becomes the library's own error, with the path."""
    try:
        yield
    except RuntimeError as fault:  # how Python before 3.13 tells of links in a circle
        raise OutputError(f"{path}: cannot be written: {fault}") from fault
    except OSError as fault:
        reason = "the disk is full" if fault.errno == errno.ENOSPC else fault.strerror
        raise OutputError(f"{path}: cannot be written: {reason}") from fault


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is; not every system can say so of folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
