"""Bytes that may be allocated for what a file asks for; who allocates takes them first."""

from __future__ import annotations

from typing import Final

from onnxcompress.data.memory import available_bytes
from onnxcompress.errors import OnnxCompressError

_LEAST_BYTES: Final = 4 << 30
_TIMES_THE_MODEL: Final = 16
_SHARE_OF_FREE: Final = 0.75
_MEBIBYTE: Final = 1 << 20


def bytes_for_model(stored_bytes: int) -> int:
    """What all that is made of a model may take: 4 GiB and 16 times its file, if so much is free.

    Args:
        stored_bytes: of its files.
    """
    free = int(available_bytes() * _SHARE_OF_FREE)
    return min(free, _LEAST_BYTES + _TIMES_THE_MODEL * stored_bytes)


class Allowance:
    """Bytes that may be allocated for one purpose in all.

    Args:
        allowed: bytes.
        error: the class of what is raised where they do not suffice.
    """

    def __init__(self, allowed: int, error: type[OnnxCompressError]) -> None:
        self._allowed = allowed
        self._taken = 0
        self._error = error

    def take(self, needed: int, what: str) -> None:
        """Takes bytes, or refuses without taking any.

        Raises:
            OnnxCompressError: of the class given; there are not as many left.
        """
        if self._taken + needed > self._allowed:
            others = f" beside {_told(self._taken)} for others" if self._taken else ""
            raise self._error(
                f"{what} needs {_told(needed)}{others}, more than the {_told(self._allowed)} that "
                f"a model of this size may take"
            )
        self._taken += needed


def _told(count: int) -> str:
    return f"{count / _MEBIBYTE:,.0f} MiB" if count >= _MEBIBYTE else f"{count} bytes"
