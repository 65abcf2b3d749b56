"""Which rows of a table stay, and what is read for those that go."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from onnxcompress.data.recipe_paths import inside_current_folder
from onnxcompress.errors import DataError, RecipeError

_CHUNK = 1024  # rows compared at once, so that memory stays small
_MAX_FILE_BYTES = 64 << 20


class RowUses:
    """How the rows of one table are read.

    Attributes:
        counts: int64 [rows].
    """

    def __init__(self, rows: int):
        self.counts = np.zeros(rows, np.int64)
        self._steps = 0
        self._rising = 0

    @property
    def are_positions(self) -> bool:
        """Whether ids mostly follow each other along the last axis, each by the next."""
        return 2 * self._rising > self._steps

    def add(self, ids: np.ndarray) -> None:
        """Counts ids of any shape, negative ones from the end.

        Raises:
            DataError: an id is no row.
        """
        rows = len(self.counts)
        if ids.size and (ids.min() < -rows or ids.max() >= rows):
            worst = ids.max() if ids.max() >= rows else ids.min()
            raise DataError(f"id {worst} of the data is none of the {rows} rows of a table")
        self.counts += np.bincount(ids.reshape(-1).astype(np.int64) % rows, minlength=rows)
        if ids.ndim:
            steps = np.diff(ids, axis=-1)
            self._steps += steps.size
            self._rising += int((steps == 1).sum())


@dataclass(frozen=True)
class SmallTable:
    """A table without some of its rows.

    Attributes:
        rows: int64 [kept], the rows that stay, ascending.
        places: uint16 or int32 [rows before]: where each former row is now read.
    """

    rows: np.ndarray
    places: np.ndarray

    def nbytes(self, row_bytes: int) -> int:
        """Bytes that the table and its map of ids take in a file."""
        return len(self.rows) * row_bytes + int(self.places.nbytes)


def shrink(table: np.ndarray, kept: np.ndarray, unknown: int | None = None) -> SmallTable:
    """Leaves out rows; each is read as another from then on.

    Args:
        table: float [rows, columns], finite.
        kept: bool [rows], True somewhere.
        unknown: the row, one of those kept, that is read for all that go; None for the one of
            those kept that points most nearly the same way (the largest cosine).
    """
    rows = np.flatnonzero(kept)
    gone = np.flatnonzero(~kept)
    places = np.empty(len(kept), np.uint16 if len(rows) <= 1 << 16 else np.int32)
    places[rows] = np.arange(len(rows))
    if unknown is not None:
        places[gone] = np.searchsorted(rows, unknown)
    else:
        places[gone] = _nearest(_directions(table[gone]), _directions(table[rows]))
    return SmallTable(rows, places)


def unseen_share(counts: np.ndarray, kept: np.ndarray, least_count: int) -> float:
    """The share of new ids that are expected to be of rows that went.

    As many as those that were read r + 1 times are expected where rows read r times are asked for.
    Source: Good, "The population frequencies of species", Biometrika 40, 1953.

    Args:
        counts: int [rows], how often each was read.
        kept: bool [rows].
        least_count: rows read less often went, unless they were kept anyhow.
    """
    rare = counts[(counts <= least_count) & ~(kept & (counts < least_count))]
    return float(rare.sum() / max(counts.sum(), 1))


def _directions(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    directions: np.ndarray = rows / np.where(lengths > 0, lengths, 1)
    return directions


def _nearest(wanted: np.ndarray, offered: np.ndarray) -> np.ndarray:
    found = [
        (wanted[start : start + _CHUNK] @ offered.T).argmax(axis=1)
        for start in range(0, len(wanted), _CHUNK)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def read_ids(path: str | os.PathLike[str]) -> list[int]:
    """Ids from a text file below the current folder, one a line.

    Raises:
        DataError: it lies elsewhere, or is no plain file, or a large one.
        RecipeError: the file cannot be read, or a line is no integer.
    """
    path = inside_current_folder(path, "a list of ids", most_bytes=_MAX_FILE_BYTES)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise RecipeError(f"{path}: cannot be read as a list of ids: {fault}") from fault
    ids = []
    for number, line in enumerate(lines, 1):
        try:
            ids += [int(line)] if line.strip() else []
        except ValueError:
            raise RecipeError(f"{path}: line {number} is no id") from None
    return ids
