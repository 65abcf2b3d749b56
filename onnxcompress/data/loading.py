"""What `--data` may name, and how each kind is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnxcompress.data.callables import (
    current_folder_importable,
    describe,
    import_function,
    names_function,
)
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.memory import available_bytes
from onnxcompress.data.parts import ArraysPart, NpzPart, Part, TestSetPart
from onnxcompress.errors import DataError

if TYPE_CHECKING:
    from onnxcompress.runtime.session import TensorSignature


_PART_BYTES: Final = 4096
"""What a part takes besides its arrays, about."""


def load_dataset(
    spec: str, signature: Sequence[TensorSignature], *, group_by: str | None = None
) -> Dataset:
    """Opens the data that a user names.

    Args:
        spec: one of

            - an .npz file: an array for each input, its first axis being samples, and `labels` if
              there are any (an input called `labels` is an input), or `labels.NAME` for those of
              the output NAME. Without either, `y`, `label`, `target` or `targets` are taken as
              labels where they hold an entry for each sample. An array of rank 0 goes with every
              sample.
            - a folder of such files; only one is in memory at a time.
            - an ONNX `test_data_set_*` folder, or a folder of several: each is one sample, fed
              exactly as it is, which suits any model.
            - `package.module:function`: called without arguments, it returns or yields
              dictionaries as an .npz file holds them. They are all copied into memory, so that
              every pass sees the same samples.
        signature: the model's inputs.
        group_by: the array whose values tell which samples belong together, if any.

    Raises:
        DataError: the data cannot be read or do not fit the model; see the message.
    """
    if not spec:  # it would be the current folder
        raise DataError("the data have an empty name; give a file, a folder or module:function")
    path = Path(spec)
    if path.exists():
        return Dataset(_parts_of(path, signature), signature, group_by=group_by)
    if names_function(spec):
        return Dataset(_parts_from_function(spec, signature), signature, group_by=group_by)
    raise DataError(
        f"{spec}: there is no such file or folder; data are an .npz file, a folder of them, a "
        f"test_data_set_* folder or package.module:function"
    )


def dataset_of(
    arrays: Mapping[str, np.ndarray],
    signature: Sequence[TensorSignature],
    *,
    origin: str = "the arrays",
    group_by: str | None = None,
) -> Dataset:
    """A dataset of arrays in memory, as an .npz file holds them (see `load_dataset`); not copied.

    Raises:
        DataError: the arrays do not fit the inputs.
    """
    return Dataset([ArraysPart(arrays, signature, origin)], signature, group_by=group_by)


def _parts_of(path: Path, signature: Sequence[TensorSignature]) -> list[Part]:
    if path.is_file():
        return [NpzPart(path, signature)]
    files = sorted(path.glob("*.npz"), key=_natural)
    if files:
        return [NpzPart(file, signature) for file in files]
    folders = [path] if (path / "input_0.pb").is_file() else _test_sets(path)
    if not folders:
        raise DataError(
            f"{path}: the folder holds neither .npz files nor input_0.pb "
            f"nor test_data_set_* folders"
        )
    parts = [TestSetPart(folder, signature) for folder in folders]
    # The others are read when their turn comes; this one tells what would be wrong with all.
    parts[0].arrays()
    return list(parts)


def _test_sets(path: Path) -> list[Path]:
    found = (folder for folder in path.glob("test_data_set_*") if folder.is_dir())
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Sorts `set_10` behind `set_2`."""
    pieces = re.split(r"(\d+)", path.name)
    return tuple((int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces)


def _parts_from_function(spec: str, signature: Sequence[TensorSignature]) -> list[Part]:
    function = import_function(spec)
    parts: list[Part] = []
    kept, room = 0, available_bytes() // 2
    with current_folder_importable():
        for index, item in enumerate(_items(spec, function)):
            origin = f"{spec} (item {index})"
            if not isinstance(item, Mapping):
                raise DataError(
                    f"{origin}: {type(item).__name__} is not a dictionary of input name to array"
                )
            arrays = {str(name): np.asarray(value) for name, value in item.items()}
            # Counted together, since a generator may never end; half of it is left for the work.
            kept += _PART_BYTES + sum(array.nbytes for array in arrays.values())
            if kept > room:
                raise DataError(
                    f"{origin}: samples take more than half of the memory that is free; does it "
                    f"ever end? Give fewer, or .npz files in a folder"
                )
            # A generator may fill the same buffers again.
            copies = {name: array.copy() for name, array in arrays.items()}
            parts.append(ArraysPart(copies, signature, origin))
    if not parts:
        raise DataError(f"{spec}: it gave no samples")
    return parts


def _items(spec: str, function: Any) -> Iterator[Any]:
    try:
        result = function()
        if isinstance(result, Mapping):
            yield result
            return
        if not isinstance(result, Iterable):
            raise DataError(f"{spec}: it returned {type(result).__name__}, not dictionaries")
        iterator = iter(result)
    except DataError:
        raise
    except Exception as fault:
        raise DataError(f"{spec}: it failed: {describe(fault)}") from fault
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as fault:
            raise DataError(f"{spec}: it failed: {describe(fault)}") from fault
        yield item
