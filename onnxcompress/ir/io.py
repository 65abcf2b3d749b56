"""Model files: loading lazily, saving whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError

from onnxcompress.api_errors import own_errors
from onnxcompress.errors import ModelError, OutputError
from onnxcompress.files import written_whole
from onnxcompress.ir import elements
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.stream import MESSAGE_LIMIT, write_message
from onnxcompress.ir.to_proto import described, export_model, store_inside

PROTOBUF_LIMIT = MESSAGE_LIMIT
"""The largest message protobuf can write, in bytes."""

SINGLE_FILE_LIMIT = PROTOBUF_LIMIT - (64 << 20)
"""Weights beyond this many bytes go to a file beside the model; the rest is left to the graph."""

_MIN_EXTERNAL_BYTES = 1024  # smaller tensors (shapes, axes, scales) stay readable in the model
_ALIGNMENT = 64  # so that onnxruntime can use the bytes where they are mapped
_CHUNK = 16 << 20


@own_errors
def load(path: str | os.PathLike[str]) -> Model:
    """Reads a model; weights in external files stay on disk until they are used.

    Raises:
        ModelError: the file is missing, cut short, not an ONNX model, or its external data is not
            where it says, inside the model's folder.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > PROTOBUF_LIMIT:
            raise ModelError(
                f"{path}: {size} bytes, but an .onnx file holds 2 GiB at most; "
                "store the weights as external data"
            )
        raw = path.read_bytes()
    except OSError as fault:
        raise ModelError(f"{path}: cannot be read: {fault.strerror}") from fault
    try:
        proto = onnx.ModelProto.FromString(raw)
    except DecodeError as fault:
        raise ModelError(f"{path}: not an ONNX model, or cut short or damaged") from fault
    del raw
    if not proto.HasField("graph") or not proto.graph.output:
        raise ModelError(f"{path}: not an ONNX model: it holds no graph with outputs")
    try:
        return import_model(proto, path)
    except ModelError as fault:
        raise ModelError(f"{path}: {fault}") from fault


def to_bytes(model: Model) -> bytes:
    """The model as one message.

    Raises:
        ModelError: it needs more than the 2 GiB that a message can hold.
    """
    fault: Exception | None = None
    if model.weight_bytes <= PROTOBUF_LIMIT:
        try:
            return bytes(export_model(model).SerializeToString())
        except (EncodeError, ValueError) as encode_fault:
            fault = encode_fault
    raise ModelError(
        f"the model is larger than the 2 GiB one file can hold "
        f"({model.weight_bytes / 2**30:.2f} GiB of weights); save it with external data"
    ) from fault


@own_errors
def save(model: Model, path: str | os.PathLike[str], *, external: bool | None = None) -> list[Path]:
    """Writes a model whole or not at all, and never over the file it was loaded from.

    Args:
        model: what to write.
        path: the .onnx file; external data goes to the same name with `.data` after it.
        external: whether weights go to that second file; None decides by size.

    Returns:
        The files written.

    Raises:
        OutputError: the place cannot be written, the disk is full, or it is the input itself.
    """
    path = Path(path)
    data_path = data_file(path)
    if external is None:
        external = model.weight_bytes > SINGLE_FILE_LIMIT
    targets = [data_path, path] if external else [path]
    for target in targets:
        if target.resolve() in model.files:
            raise OutputError(f"{target}: is a file of the input model; choose another output")
    if not external and model.weight_bytes > PROTOBUF_LIMIT:
        raise OutputError(f"{path}: one file holds 2 GiB at most; save with external data")
    with written_whole(*targets) as files:
        try:
            if external:
                proto = export_model(model, _ExternalStore(files[0], data_path.name))
                files[-1].write(proto.SerializeToString())
            else:
                write_message(model, files[-1], _raw_chunks)
        except (EncodeError, ValueError) as fault:
            raise OutputError(f"{path}: the graph alone is larger than 2 GiB: {fault}") from fault
    return targets


def data_file(path: Path) -> Path:
    """Where the weights of a model go that is too large for one file."""
    return path.with_name(path.name + ".data")


class _ExternalStore:
    """Streams tensors to a file and leaves a reference in the message."""

    def __init__(self, file: BinaryIO, location: str):
        self.file = file
        self.location = location

    def __call__(self, constant: Constant) -> onnx.TensorProto:
        if constant.nbytes < _MIN_EXTERNAL_BYTES or constant.dtype.kind == "O":
            return store_inside(constant)
        self.file.write(b"\0" * (-self.file.tell() % _ALIGNMENT))
        offset = self.file.tell()
        proto = onnx.TensorProto(
            name=constant.name,
            dims=constant.shape,
            data_type=elements.type_of(constant.dtype),
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for raw in _raw_chunks(constant):
            self.file.write(raw)
        for key, value in (
            ("location", self.location),
            ("offset", str(offset)),
            ("length", str(self.file.tell() - offset)),
        ):
            proto.external_data.add(key=key, value=value)
        return described(proto, constant)


def _raw_chunks(constant: Constant) -> Iterator[bytes]:
    """A tensor's bytes as ONNX stores them: little-endian, elements under a byte packed."""
    values = constant.values
    if constant.nbytes != values.nbytes:
        yield store_inside(constant).raw_data
        return
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK].tobytes()
