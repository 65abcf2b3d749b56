"""Reads .npz files that nobody vouches for: headers first, no pickle, no size taken on trust."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np

from onnxcompress.errors import DataError

_NPY_MAGIC: Final = b"\x93NUMPY"
_HEADER_READERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_SIZE_BYTES: Final = {(1, 0): 2, (2, 0): 4}
_LONGEST_HEADER: Final = 10_000  # of what numpy itself parses
_SMALL: Final = 1 << 28
_MOST_TIMES: Final = 200
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError),
    *(tokenize.TokenError, SyntaxError, TypeError),  # of a header that is no Python
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One array of an .npz file, as its header declares it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that the array takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_members(path: Path) -> dict[str, Member]:
    """Reads the headers of all arrays, and no data.

    Raises:
        DataError: not an .npz file, a pickled array, or a header that does not agree with the
            number of bytes stored.
    """
    with _opened(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        if not entries:
            raise DataError(f"{path}: it holds no arrays")
        return {member.name: member for member in (_read_header(archive, e, path) for e in entries)}


def read_array(path: Path, member: Member) -> np.ndarray:
    """Reads one array whose header was read before.

    Raises:
        DataError: the data are damaged, or the file changed since.
    """
    entry = f"{member.name}.npy"
    with _opened(path) as archive:
        try:
            if _read_header(archive, archive.getinfo(entry), path) != member:
                raise DataError(f"{path}: array {member.name!r} changed while it was in use")
            with archive.open(entry) as stream:
                array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        except (*_BROKEN, KeyError, RuntimeError) as fault:
            raise DataError(f"{path}: array {member.name!r} is damaged ({_line(fault)})") from fault
    return array


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except _BROKEN as fault:
        raise DataError(f"{path}: {_why_no_archive(path, fault)}") from fault
    with archive:
        yield archive


def _why_no_archive(path: Path, fault: Exception) -> str:
    if isinstance(fault, zipfile.BadZipFile) and path.is_file():
        with path.open("rb") as stream:
            if stream.read(len(_NPY_MAGIC)) == _NPY_MAGIC:
                return (
                    "a single array without a name; store it as "
                    "np.savez('data.npz', **{input_name: array})"
                )
        return "not an .npz file; np.savez('data.npz', **{input_name: array}) writes one"
    return f"cannot be read ({_line(fault)})"


def _read_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Member:
    name = entry.filename.removesuffix(".npy")
    what = f"{path}: array {name!r}"
    try:
        with archive.open(entry) as stream:
            shape, dtype = _parse_header(stream)
            header_bytes = stream.tell()
    except (*_BROKEN, KeyError, RuntimeError) as fault:
        raise DataError(f"{what} has no readable header ({_line(fault)})") from fault
    if dtype.hasobject:
        raise DataError(
            f"{what} holds pickled Python objects, which are never loaded; store plain numbers, "
            f"with all samples of one shape, or text as np.array(..., dtype=str)"
        )
    member = Member(name=name, shape=shape, dtype=dtype)
    stored = entry.file_size - header_bytes
    if any(size < 0 for size in shape) or member.nbytes != stored:
        raise DataError(
            f"{what} is declared as {dtype} {shape}, {member.nbytes} bytes, but {stored} bytes are "
            f"stored; the file is damaged"
        )
    if stored > _SMALL and stored > _MOST_TIMES * max(entry.compress_size, 1):
        raise DataError(
            f"{what} unpacks to {stored / (1 << 20):,.0f} MiB, "
            f"{stored // entry.compress_size} times what is stored; if that is meant, store it as "
            f"it is, by np.savez"
        )
    return member


def _parse_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"npy format {version[0]}.{version[1]} is not supported")
    # numpy reads as many bytes as the header claims to have before it looks at their number.
    size = stream.read(_SIZE_BYTES[version])
    claimed = int.from_bytes(size, "little")
    if claimed > _LONGEST_HEADER:
        raise ValueError(f"it claims to be {claimed} bytes long")
    shape, _, dtype = _HEADER_READERS[version](io.BytesIO(size + stream.read(claimed)))
    return tuple(int(size) for size in shape), dtype


def _line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]
