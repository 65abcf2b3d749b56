"""ONNX element types <-> numpy's, the same under every version of onnx that we allow.

onnx before 1.19 gives bfloat16 and the small types as float32, int8 or types of its own, and knows
none that came to ONNX after it. numpy has them from ml_dtypes; what a file holds does not depend on
the package that reads it. All other types are onnx's to tell.

Source: the comments on `TensorProto` in onnx.proto (field numbers, packing).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

UINT4: Final = 21
INT4: Final = 22
UINT2: Final = 25
INT2: Final = 26
"""`TensorProto.DataType`, where the installed onnx may lack the name."""

_DTYPES: Final[Mapping[int, np.dtype]] = {
    16: np.dtype(ml_dtypes.bfloat16),
    17: np.dtype(ml_dtypes.float8_e4m3fn),
    18: np.dtype(ml_dtypes.float8_e4m3fnuz),
    19: np.dtype(ml_dtypes.float8_e5m2),
    20: np.dtype(ml_dtypes.float8_e5m2fnuz),
    UINT4: np.dtype(ml_dtypes.uint4),
    INT4: np.dtype(ml_dtypes.int4),
    23: np.dtype(ml_dtypes.float4_e2m1fn),
    24: np.dtype(ml_dtypes.float8_e8m0fnu),
    UINT2: np.dtype(ml_dtypes.uint2),
    INT2: np.dtype(ml_dtypes.int2),
}
_TYPES: Final[Mapping[np.dtype, int]] = {dtype: number for number, dtype in _DTYPES.items()}
_BITS: Final[Mapping[int, int]] = {UINT4: 4, INT4: 4, 23: 4, UINT2: 2, INT2: 2}


def dtype_of(onnx_type: int) -> np.dtype:
    """The numpy type of an ONNX element type.

    Raises:
        KeyError: onnx knows no such type.
    """
    if onnx_type in _DTYPES:
        return _DTYPES[onnx_type]
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx_type))


def type_of(dtype: np.dtype) -> int:
    """The ONNX element type of a numpy type.

    Raises:
        ValueError: ONNX has none.
    """
    if dtype in _TYPES:
        return _TYPES[dtype]
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def to_array(proto: onnx.TensorProto) -> np.ndarray:
    """The elements of a tensor that holds them itself.

    Raises:
        ValueError: they do not fit its shape; likewise TypeError, of the type.
    """
    dtype = _DTYPES.get(proto.data_type)
    if dtype is None:
        return numpy_helper.to_array(proto)
    shape = tuple(proto.dims)
    carrier = np.dtype(f"<u{dtype.itemsize}")
    if proto.HasField("raw_data"):
        values = np.frombuffer(proto.raw_data, carrier)
    else:
        values = np.array(proto.int32_data, np.int32).astype(carrier)
    bits = _BITS.get(proto.data_type)
    if bits is not None:
        values = _unpacked(values, bits, math.prod(shape))
    return values.astype(carrier.newbyteorder("="), copy=False).view(dtype).reshape(shape)


def from_array(array: np.ndarray, name: str | None = None) -> onnx.TensorProto:
    """A tensor that holds the elements itself."""
    number = _TYPES.get(array.dtype)
    if number is None:
        return numpy_helper.from_array(array, name)
    flat = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    if number in _BITS:
        flat = _packed(flat, _BITS[number])
    raw = flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()
    return onnx.TensorProto(name=name, data_type=number, dims=array.shape, raw_data=raw)


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of `bits` bits, several to a byte, the first in the lowest bits."""
    count = 8 // bits
    packed = np.zeros(-(-codes.size // count), np.uint8)
    for place in range(count):
        part = (codes[place::count] & np.uint8((1 << bits) - 1)) << np.uint8(place * bits)
        packed[: part.size] |= part
    return packed


def _unpacked(packed: np.ndarray, bits: int, size: int) -> np.ndarray:
    count = 8 // bits
    # onnx reads past the first elements of no tensor, and its text parser writes more bytes.
    packed, found = packed[: -(-size // count)], packed.size
    if found * count < size:
        raise ValueError(f"{found} bytes hold no {size} elements of {bits} bits")
    codes = np.empty(packed.size * count, np.uint8)
    for place in range(count):
        codes[place::count] = (packed >> np.uint8(place * bits)) & np.uint8((1 << bits) - 1)
    return codes[:size]
