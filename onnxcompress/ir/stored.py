"""Arrays that stay where they are stored until someone reads them."""

from __future__ import annotations

import io
import math
import tempfile
import weakref
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np
import onnx

from onnxcompress.errors import ModelError
from onnxcompress.ir import elements
from onnxcompress.ir.external import Place

SUB_BYTE_BITS = {
    "int2": 2,
    "uint2": 2,
    "int4": 4,
    "uint4": 4,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
}
"""Element types that numpy keeps one to a byte and a file packs, with their width in bits."""

SPILLED_BYTES = 1 << 20
"""Arrays of at least this size that a pass makes are kept on disk."""


def stored_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes that an array of this shape and element type takes in a file."""
    bits = SUB_BYTE_BITS.get(dtype.name, dtype.itemsize * 8)
    return (math.prod(shape) * bits + 7) // 8


class StoredArray(Protocol):
    """An array described by where it lies; `load` makes it readable."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Element type."""
        ...

    def load(self) -> np.ndarray:
        """The array, read-only, without keeping a reference to it."""
        ...


@dataclass(frozen=True, kw_only=True)
class MappedArray:
    """An array in a file beside the model, mapped read-only at each load (no copy, no cache)."""

    place: Place
    shape: tuple[int, ...]
    dtype: np.dtype

    def load(self) -> np.ndarray:
        """Maps the file's bytes; the mapping ends with the last reference to the array.

        Raises:
            ModelError: the file is no longer what it was when the model was loaded.
        """
        place = self.place
        try:
            return np.memmap(place.path, self.dtype, "r", offset=place.offset, shape=self.shape)
        except (OSError, ValueError) as fault:
            raise _changed(place) from fault


class Spill:
    """A temporary file without a name for the large arrays that one pass makes.

    So a pass over a model of any size takes the memory of a few weights. The file goes with the
    last array that lies in it.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def keep(self, values: np.ndarray) -> np.ndarray | SpilledArray:
        """The array as a model keeps it; in memory if it is small or there is no disk space."""
        if values.nbytes < SPILLED_BYTES or values.dtype.kind == "O":
            return values
        try:
            file = self._opened()
            offset = file.seek(0, io.SEEK_END)
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            file.flush()
        except OSError:
            return values
        return SpilledArray(spill=self, offset=offset, shape=values.shape, dtype=values.dtype)

    def load(self, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Maps an array that was kept, as `MappedArray` does."""
        return np.memmap(self._opened(), dtype, "r", offset=offset, shape=shape)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        return self._file


@dataclass(frozen=True, kw_only=True, eq=False)
class SpilledArray:
    """An array that a pass made, in a temporary file."""

    spill: Spill
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def load(self) -> np.ndarray:
        """Maps the file's bytes."""
        return self.spill.load(self.offset, self.shape, self.dtype)


@dataclass(frozen=True, kw_only=True)
class PackedArray:
    """An array of elements under one byte, packed in a file beside the model."""

    place: Place
    onnx_type: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def load(self) -> np.ndarray:
        """Unpacks the elements, one to a byte.

        Raises:
            ModelError: the file is no longer what it was when the model was loaded.
        """
        try:
            with self.place.path.open("rb") as file:
                file.seek(self.place.offset)
                raw = file.read(self.place.length)
            packed = onnx.TensorProto(data_type=self.onnx_type, dims=self.shape, raw_data=raw)
            return elements.to_array(packed)
        except (OSError, ValueError) as fault:
            raise _changed(self.place) from fault


def _changed(place: Place) -> ModelError:
    return ModelError(f"{place.path}: was removed or cut short after the model was loaded from it")
