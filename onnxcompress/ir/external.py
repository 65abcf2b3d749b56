"""External data: where a tensor's bytes lie beside the model, checked before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxcompress.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Place:
    """`length` bytes from `offset` in `path`."""

    path: Path
    offset: int
    length: int


def locate(tensor: onnx.TensorProto, model: Path, expected: int) -> Place:
    """Finds a tensor's bytes, refusing to leave the model's folder.

    Args:
        tensor: a TensorProto with `data_location` EXTERNAL.
        model: the model file, perhaps a link.
        expected: bytes that the tensor's type and shape ask for.

    Raises:
        ModelError: the location is missing, leaves the model's folder (also by a symbolic link, but
            see `may_hold`), or the file does not hold `expected` bytes there.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"external data of tensor {tensor.name!r}"
    location = entries.get("location", "")
    if not location:
        raise ModelError(f"{where}: no location is given")
    if isinstance(location, bytes) or "\0" in location:  # bytes are no UTF-8
        raise ModelError(f"{where}: {location!r} is no file name")
    path = (model.parent / location).resolve()
    if not may_hold(model, location, path):
        raise ModelError(f"{where}: {location!r} leaves the model's folder, which is refused")
    if not path.is_file():
        raise ModelError(f"{where}: file {location!r} is missing beside the model")
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", expected))
    except ValueError as fault:
        raise ModelError(f"{where}: offset and length must be integers ({fault})") from fault
    if length != expected:
        raise ModelError(f"{where}: {length} bytes are stored, its type and shape need {expected}")
    if offset < 0 or offset + length > path.stat().st_size:
        raise ModelError(
            f"{where}: bytes {offset}..{offset + length} lie beyond the end of {location!r} "
            f"({path.stat().st_size} bytes); the file is cut short"
        )
    return Place(path=path, offset=offset, length=length)


def may_hold(model: Path, location: str, path: Path) -> bool:
    """Whether data may be read from `path`, where `location` leads from the model's folder.

    They may lie below that folder. A name that does not leave it may also be a link to below the
    folder of the file that the model itself is a link to, or to the blobs of the Hugging Face cache
    repository that the link stands in: `snapshots/REVISION/model.onnx_data` -> `blobs/HASH`.
    """
    if path.is_relative_to(model.parent.resolve()):
        return True
    folder = Path(os.path.abspath(model.parent))  # noqa: PTH100 - resolving would follow links
    named = Path(os.path.normpath(folder / location))
    if not named.is_relative_to(folder):
        return False
    if path.is_relative_to(model.resolve().parent):
        return True
    snapshots = next((each for each in folder.parents if each.name == "snapshots"), None)
    return (
        snapshots is not None
        and named.is_symlink()
        and path.parent == (snapshots.parent / "blobs").resolve()
    )
