"""A model as one protobuf message, written weight by weight, so that none is held twice for long.

Source: protobuf's wire format, https://protobuf.dev/programming-guides/encoding: a message is a
sequence of fields in any order, each of bytes being a tag, a length and the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

import onnx
from google.protobuf.message import EncodeError, Message

from onnxcompress.ir import elements
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.to_proto import described, export_model, store_inside

MESSAGE_LIMIT = (1 << 31) - 1
"""The largest message protobuf can read, in bytes."""

STREAMED_BYTES = 1 << 20
"""Smaller tensors go through protobuf as they are."""

RawChunks = Callable[[Constant], Iterator[bytes]]
"""A tensor's bytes as ONNX stores them; `Constant.nbytes` in all."""


def write_message(model: Model, file: BinaryIO, raw_chunks: RawChunks) -> None:
    """Writes what `export_model(model)` would hold.

    Raises:
        EncodeError: it is larger than protobuf can hold.
    """
    streamed: dict[str, Constant] = {}

    def store(constant: Constant) -> onnx.TensorProto:
        if constant.nbytes < STREAMED_BYTES or constant.dtype.kind == "O":
            return store_inside(constant)
        streamed[constant.name] = constant
        onnx_type = elements.type_of(constant.dtype)
        header = onnx.TensorProto(name=constant.name, dims=constant.shape, data_type=onnx_type)
        return described(header, constant)

    proto = export_model(model, store, in_bodies=store_inside)
    tensors = [(tensor.name, tensor.SerializeToString()) for tensor in proto.graph.initializer]
    proto.graph.ClearField("initializer")
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    envelope = proto.SerializeToString()

    heads: list[tuple[bytes, Constant | None]] = []
    length = len(graph)
    for name, tensor in tensors:
        constant = streamed.get(name)
        raw = 0
        if constant is not None:
            raw = constant.nbytes
            tensor += _opening(onnx.TensorProto, "raw_data", raw)
        head = _opening(onnx.GraphProto, "initializer", len(tensor) + raw) + tensor
        heads.append((head, constant))
        length += len(head) + raw
    opening = _opening(onnx.ModelProto, "graph", length)
    total = len(envelope) + len(opening) + length
    if total > MESSAGE_LIMIT:
        raise EncodeError(f"a message of {total} bytes")
    file.write(envelope + opening + graph)
    for head, constant in heads:
        file.write(head)
        for raw_bytes in raw_chunks(constant) if constant is not None else ():
            file.write(raw_bytes)


def _opening(message: type[Message], field: str, length: int) -> bytes:
    """Tag and length of a field of bytes, which follow."""
    tag = message.DESCRIPTOR.fields_by_name[field].number << 3 | 2
    return _varint(tag) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
