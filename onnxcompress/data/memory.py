"""Refuses what memory cannot hold, before anything is allocated."""

from __future__ import annotations

import psutil

from onnxcompress.errors import DataError

_MEBIBYTE = 1 << 20


def available_bytes() -> int:
    """Memory that can be taken without swapping, in bytes."""
    return int(psutil.virtual_memory().available)


def require_memory(needed: int, origin: str) -> None:
    """Checks that `needed` bytes fit.

    Raises:
        DataError: they do not; `origin` is named.
    """
    available = available_bytes()
    if needed > available:
        raise DataError(
            f"{origin}: its arrays need {needed / _MEBIBYTE:,.0f} MiB and "
            f"{available / _MEBIBYTE:,.0f} MiB of memory are free; split it into smaller .npz "
            f"files in one folder"
        )
