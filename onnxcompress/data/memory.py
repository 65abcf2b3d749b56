"""Refuses what memory cannot hold, before anything is allocated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import psutil

from onnxcompress.errors import DataError

_MEBIBYTE = 1 << 20
# Where a container says how much of the machine is its own; "max" if all of it is.
_CONTAINER_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine_bytes() -> int:
    """Memory of the machine, or of the container this runs in, in bytes."""
    found = [int(psutil.virtual_memory().total)]
    for path in _CONTAINER_LIMITS:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is no container, or it has no limit
            continue
    return min(found)


def limit_memory(size: int) -> None:
    """Lets nothing in this process take more than `size` bytes, where the system has such a limit.

    What would take more fails then with an error that is told, onnxruntime's allocations included.
    A limit that is lower already stays.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [size, *(each for each in (soft, hard) if each != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))


def memory_limit() -> int | None:
    """What `limit_memory` or the shell allows this process, in bytes; None for all there is."""
    if sys.platform == "win32":
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def available_bytes() -> int:
    """Memory that can be taken without swapping, and within the limit, in bytes."""
    available = int(psutil.virtual_memory().available)
    limit = memory_limit()
    if limit is None:
        return available
    return min(available, max(limit - int(psutil.Process().memory_info().rss), 0))


def require_memory(
    needed: int, origin: str, advice: str = "split it into smaller .npz files in one folder"
) -> None:
    """Checks that `needed` bytes fit.

    Raises:
        DataError: they do not; `origin` is named.
    """
    available = available_bytes()
    if needed > available:
        raise DataError(
            f"{origin}: its arrays need {needed / _MEBIBYTE:,.0f} MiB and "
            f"{available / _MEBIBYTE:,.0f} MiB of memory are free; {advice}"
        )
