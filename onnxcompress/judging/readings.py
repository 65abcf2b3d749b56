"""How an output is turned into what a metric compares.

A reading gets a *chunk* of each of its outputs: an array whose first axis is samples. It gives an
array whose first axis is samples, or a list of one item for each sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from onnxcompress.measure.objects import rows_of
from onnxcompress.measure.predictions import Output

Chunks = Mapping[str, np.ndarray]


class Reading(Protocol):
    """Turns chunks of some outputs into what a metric compares."""

    @property
    def keeps_shape(self) -> bool:
        """Whether a candidate whose outputs have another shape cannot be read alike."""

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> Output | list[Any]:
        """One entry for each sample of the chunks."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values as they are, an axis of classes moved to the end.

    Attributes:
        class_axis: of a sample; None for the last.
    """

    class_axis: int | None = None
    keeps_shape: bool = True

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> Output:
        """An array of the output's dtype."""
        (name,) = outputs
        array = chunks[name]
        if self.class_axis is not None and array.ndim > 1:
            array = np.moveaxis(array, self.class_axis + 1, -1)
        return array


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A free number of rows for each sample, compared as a set."""

    keeps_shape: bool = False

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> list[np.ndarray]:
        """One array of rows for each sample."""
        (name,) = outputs
        return rows_of(chunks[name])


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The class with the highest score, int64.

    Attributes:
        class_axis: of a sample; axes of length 1 are not counted where it is None, and the last of
            the others is it.
    """

    class_axis: int | None = None
    keeps_shape: bool = True

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> np.ndarray:
        """Shape (samples, ...) without the axis of classes."""
        (name,) = outputs
        array = chunks[name]
        if self.class_axis is None:
            array = array.reshape(len(array), *(n for n in array.shape[1:] if n != 1))
            return np.asarray(array.argmax(axis=-1))
        return np.asarray(array.argmax(axis=self.class_axis + 1))


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Numbers by what they measure: shape (samples, channels, places).

    Attributes:
        axis: of a sample, whose places measure different things; None where all measure one.
    """

    axis: int | None
    keeps_shape: bool = True

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> np.ndarray:
        """float32 or float64, as the output is."""
        (name,) = outputs
        array = chunks[name]
        if array.dtype.kind == "V" or array.dtype == np.float16:
            array = array.astype(np.float32)
        if self.axis is None:
            return array.reshape(len(array), 1, -1)
        moved = np.moveaxis(array, self.axis + 1, 1)
        return moved.reshape(len(array), moved.shape[1], -1)


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """One vector a sample: shape (samples, values)."""

    keeps_shape: bool = True

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> np.ndarray:
        """Flattened."""
        (name,) = outputs
        array = chunks[name]
        return array.reshape(len(array), -1)


@dataclass(frozen=True, kw_only=True)
class KeyedValues:
    """Maps as numbers, one channel for each key; a key that is missing is NaN.

    Attributes:
        keys: those of the original.
    """

    keys: tuple[Any, ...]
    keeps_shape: bool = False

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> np.ndarray:
        """float64, shape (samples, keys, 1)."""
        (name,) = outputs
        rows = [
            [
                float(each.get(key, np.nan)) if isinstance(each, dict) else np.nan
                for key in self.keys
            ]
            for each in chunks[name].ravel()
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.keys), 1)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a recognizer trained with CTC reads: repeats merged, blanks left out.

    Connectionist temporal classification, Graves et al. 2006, decoded greedily.

    Attributes:
        blank: the class that stands for nothing.
    """

    blank: int
    keeps_shape: bool = False

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> list[np.ndarray]:
        """One array of class numbers for each sample."""
        (name,) = outputs
        found = []
        for sample in chunks[name]:
            scores = sample.reshape(-1, sample.shape[-1])
            best = scores.argmax(axis=-1)
            starts = np.flatnonzero(np.diff(best, prepend=-1))
            merged = best[starts]
            found.append(merged[merged != self.blank])
        return found


def joined(parts: Sequence[Output | list[Any]]) -> Output | list[Any]:
    """The samples of several chunks: one array where all are alike, else a list."""
    if all(isinstance(part, np.ndarray) for part in parts):
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        if len({(array.shape[1:], array.dtype) for array in arrays}) == 1:
            return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return [
        item for part in parts for item in (rows_of(part) if isinstance(part, np.ndarray) else part)
    ]
