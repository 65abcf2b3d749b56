"""Rows of arrays: taken, joined and padded, without a copy where none is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.memory import require_memory

_ADVICE: Final = "export the model with a smaller batch"

ShapeKey = tuple[tuple[str, tuple[int, ...], bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Samples of one part, by their place in it."""

    part: int
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, cut: slice) -> Rows:
        return Rows(part=self.part, rows=self.rows[cut])


def take_rows(
    arrays: Mapping[str, np.ndarray], rows: NDArray[np.int64], whole: bool
) -> dict[str, np.ndarray]:
    """Rows of each array: a view where they follow each other; an array of rank 0 goes along."""
    if whole:
        return dict(arrays)
    first, last = int(rows[0]), int(rows[-1])
    follow = last - first + 1 == len(rows) and bool((np.diff(rows) == 1).all())
    chosen = slice(first, last + 1) if follow else rows
    return {name: array[chosen] if array.ndim else array for name, array in arrays.items()}


def shape_key(arrays: Mapping[str, np.ndarray]) -> ShapeKey:
    """What must be equal for samples of two parts to share a batch."""
    return tuple(
        (name, array.shape[1:], b"" if array.ndim else array.tobytes())
        for name, array in sorted(arrays.items())
    )


def joined(feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Several feeds as one, along the first axis."""
    if len(feeds) == 1:
        return dict(feeds[0])
    return {
        name: np.concatenate([feed[name] for feed in feeds]) if array.ndim else array
        for name, array in feeds[0].items()
    }


def padded(feeds: Mapping[str, np.ndarray], count: int, size: int) -> dict[str, np.ndarray]:
    """`size` rows: the `count` real ones, then the last of them again.

    Raises:
        DataError: memory cannot hold so many.
    """
    by_row = sum(array.nbytes // len(array) for array in feeds.values() if array.ndim)
    require_memory(
        size * (by_row + np.dtype(np.intp).itemsize), f"a batch of {size} samples", _ADVICE
    )
    rows = np.minimum(np.arange(size), count - 1)
    return {name: array[rows] if array.ndim else array for name, array in feeds.items()}
