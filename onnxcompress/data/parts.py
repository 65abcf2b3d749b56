"""A part is what is read at once: one file, one test set folder, or one dictionary in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from onnxcompress.data.casting import cast
from onnxcompress.data.checks import check_array, check_counts, check_names, is_explicit_label
from onnxcompress.data.memory import require_memory
from onnxcompress.data.npz import read_array, read_members
from onnxcompress.data.roles import STAND_INS, Field
from onnxcompress.errors import DataError
from onnxcompress.ir import elements

if TYPE_CHECKING:
    from onnxcompress.runtime.session import TensorSignature


class Part(Protocol):
    """Samples that are read together; what can be checked without reading them was checked."""

    @property
    def origin(self) -> str:
        """Where the samples come from, for messages."""

    @property
    def count(self) -> int:
        """Number of samples."""

    @property
    def whole(self) -> bool:
        """The arrays are one sample, fed as they are; otherwise the first axis is samples."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """The arrays that can be read by name, inputs among them; a whole feed has none."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Reads the arrays of all inputs, in the inputs' dtypes."""

    def field(self, name: str) -> np.ndarray:
        """Reads one of `fields`, as it is stored."""


class ArraysPart:
    """Arrays in memory, the first axis being samples; an array of rank 0 goes with every sample.

    Args:
        arrays: by input name, and others that may be labels or groups.
        signature: the model's inputs.
        origin: where the arrays come from, for messages.

    Raises:
        DataError: the arrays do not fit the inputs.
    """

    whole = False

    def __init__(
        self, arrays: Mapping[str, np.ndarray], signature: Sequence[TensorSignature], origin: str
    ) -> None:
        self.origin = origin
        self.fields = {
            name: Field(shape=array.shape, dtype=array.dtype) for name, array in arrays.items()
        }
        self.count = _check_samples(self.fields, signature, origin)
        self._fields = dict(arrays)
        self._arrays = {
            tensor.name: cast(arrays[tensor.name], tensor.dtype, f"{origin}: input {tensor.name!r}")
            for tensor in signature
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, not copied."""
        return dict(self._arrays)

    def field(self, name: str) -> np.ndarray:
        """An array, copied only where it holds text as Python objects."""
        array = self._fields[name]
        if array.dtype != object:
            return array
        if not all(isinstance(value, str) for value in array.flat):
            raise DataError(
                f"{self.origin}: array {name!r} holds Python objects; give numbers or text"
            )
        return array.astype(str)


class NpzPart:
    """An .npz file, the first axis of its arrays being samples; only headers are read at first.

    Args:
        path: the file.
        signature: the model's inputs.

    Raises:
        DataError: the file cannot be read, or does not fit the inputs or the memory.
    """

    whole = False

    def __init__(self, path: Path, signature: Sequence[TensorSignature]) -> None:
        self.origin = str(path)
        self._path = path
        self._signature = tuple(signature)
        self._members = read_members(path)
        self.fields = {
            name: Field(shape=member.shape, dtype=member.dtype)
            for name, member in self._members.items()
        }
        self.count = _check_samples(self.fields, signature, self.origin)
        require_memory(self._bytes_needed(), self.origin)

    def arrays(self) -> dict[str, np.ndarray]:
        """Reads and casts the inputs' arrays."""
        return {
            tensor.name: cast(
                read_array(self._path, self._members[tensor.name]),
                tensor.dtype,
                f"{self.origin}: input {tensor.name!r}",
            )
            for tensor in self._signature
        }

    def field(self, name: str) -> np.ndarray:
        """Reads this array alone, if memory can hold it."""
        require_memory(self._members[name].nbytes, self.origin)
        return read_array(self._path, self._members[name])

    def _bytes_needed(self) -> int:
        """Every array as stored, and once more where it must be cast; labels, or what may be."""
        needed = 0
        for tensor in self._signature:
            member = self._members[tensor.name]
            needed += member.nbytes
            if member.dtype != tensor.dtype:
                needed += member.nbytes // max(member.dtype.itemsize, 1) * tensor.dtype.itemsize
        inputs = {tensor.name for tensor in self._signature}
        return needed + sum(
            self._members[name].nbytes
            for name, each in self.fields.items()
            if is_explicit_label(name, inputs)
            or (name in STAND_INS and name not in inputs and each.fits(self.count))
        )


class WholePart:
    """One feed in memory that is fed exactly as it is, as one sample."""

    whole = True
    count = 1

    def __init__(self, arrays: Mapping[str, np.ndarray], origin: str) -> None:
        self.origin = origin
        self.fields: dict[str, Field] = {}
        self._arrays = dict(arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, not copied."""
        return dict(self._arrays)

    def field(self, name: str) -> np.ndarray:
        """A whole feed has none."""
        raise KeyError(name)


class TestSetPart:
    """An ONNX `test_data_set_*` folder: `input_0.pb`, `input_1.pb`, ... in the inputs' order.

    A file whose tensor bears the name of an input is that input, whatever its number.

    Args:
        folder: the folder.
        signature: the model's inputs.

    Raises:
        DataError: there are fewer files than inputs.
    """

    whole = True
    count = 1
    # pytest would otherwise take the name for a test's.
    __test__ = False

    def __init__(self, folder: Path, signature: Sequence[TensorSignature]) -> None:
        self.origin = str(folder)
        self.fields: dict[str, Field] = {}
        self._signature = tuple(signature)
        self._paths = [folder / f"input_{index}.pb" for index in range(len(signature))]
        missing = [path.name for path in self._paths if not path.is_file()]
        if missing:
            raise DataError(
                f"{folder}: {', '.join(missing)} is missing; the model has {len(signature)} inputs"
            )
        require_memory(2 * sum(path.stat().st_size for path in self._paths), self.origin)

    def arrays(self) -> dict[str, np.ndarray]:
        """Reads, checks and casts the inputs' arrays."""
        names = [tensor.name for tensor in self._signature]
        found = {}
        for path, name in zip(self._paths, names, strict=True):
            stored_name, array = _read_tensor(path)
            found[stored_name if stored_name in names else name] = array
        check_names(found, self._signature, self.origin)
        for tensor in self._signature:
            array = found[tensor.name]
            check_array(tensor, array.shape, array.dtype, self.origin, whole=True)
        return {
            tensor.name: cast(
                found[tensor.name], tensor.dtype, f"{self.origin}: input {tensor.name!r}"
            )
            for tensor in self._signature
        }

    def field(self, name: str) -> np.ndarray:
        """A test set has none."""
        raise KeyError(name)


def _check_samples(
    found: Mapping[str, Field],
    signature: Sequence[TensorSignature],
    origin: str,
) -> int:
    """Checks shapes and dtypes against the inputs and returns the number of samples."""
    check_names(found, signature, origin)
    counts = {}
    for tensor in signature:
        each = found[tensor.name]
        check_array(tensor, each.shape, each.dtype, origin, whole=False)
        if each.shape:
            counts[tensor.name] = each.shape[0]
    inputs = {tensor.name for tensor in signature}
    for name, each in found.items():
        if is_explicit_label(name, inputs):
            if not each.shape:
                what = f"{origin}: {name} is a single value"
                raise DataError(f"{what}; one for each sample is needed")
            counts[name] = each.shape[0]
    return check_counts(counts, origin)


def _read_tensor(path: Path) -> tuple[str, np.ndarray]:
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise DataError(f"{path}: its data are in another file, which is not followed")
        return tensor.name, elements.to_array(tensor)
    except (DecodeError, ValueError, TypeError, KeyError) as fault:
        line = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise DataError(f"{path}: not an ONNX tensor ({line})") from fault
