"""Stored tensors that a file keeps without their zeros: ONNX's `sparse_initializer`.

What onnxruntime 1.31 makes of one on the CPU, measured with models of one node each:

==================================  ========================================================
it spreads it out when it loads     same speed and memory as a dense one from then on
ranks 0 to 5, no non-zero at all    taken, by places in the flattened tensor or by coordinates
float, integer and bool elements    taken; those under one byte are refused
indices of int8 and int16 or int32  taken, but no ONNX: the standard and its checker want int64
in bodies, read from bodies         taken
integers read by DequantizeLinear   taken, and fused as dense ones are
default of a graph input            taken, and overridden as a dense one is
returned by the graph itself        comes out as a sparse tensor: other callers break
a name that a dense one has too     taken silently, one of them is ignored: `import_model` refuses
external values or indices          neither written nor read here
==================================  ========================================================

Source: ONNX IR version 5, SparseTensorProto.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from onnxcompress.errors import ModelError
from onnxcompress.ir import elements
from onnxcompress.ir.stored import SUB_BYTE_BITS, stored_bytes

MAX_DENSE_BYTES = 1 << 31
"""A sparse tensor that would be larger than this when spread out is refused."""

SMALLEST_SPARSE = 1024
"""Elements from which on a tensor is stored without its zeros, unless a recipe says otherwise."""

LEAST_SPARSE_GAIN = 0.05
"""The share of a tensor's bytes that must go, likewise."""

INDEX_BYTES = 8
"""What the place of a value takes: an int64 in the flattened tensor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseArray:
    """A sparse stored tensor: kept sparse for the file, dense for whoever reads it."""

    proto: onnx.SparseTensorProto
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, values: np.ndarray) -> SparseArray:
        """Leaves out zeros, negative ones too.

        Args:
            values: of a type for which `why_not_sparse` gives no reason.
        """
        flat = np.ascontiguousarray(values).reshape(-1)
        places = np.flatnonzero(flat)
        proto = onnx.SparseTensorProto(
            values=elements.from_array(flat[places]),
            indices=elements.from_array(places.astype(np.int64)),
            dims=values.shape,
        )
        return cls(proto=proto, shape=values.shape, dtype=values.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that values and indices take in a file."""
        parts = self.proto.values, self.proto.indices
        return sum(
            stored_bytes(tuple(part.dims), elements.dtype_of(part.data_type)) for part in parts
        )

    @property
    def count(self) -> int:
        """Values that are stored: all that are not zero, and perhaps some that are."""
        return int(self.proto.values.dims[0])

    def load(self) -> np.ndarray:
        """Spreads the stored values over a new array of zeros."""
        dense = np.zeros(self.shape, self.dtype)
        values, indices = self._parts()
        if indices.ndim == 1:  # places in the flattened array
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        dense.flags.writeable = False
        return dense

    def check(self) -> None:
        """Checks that the values fit their places.

        Raises:
            ValueError: they do not.
        """
        values, indices = self._parts()
        if list(values.shape) != list(self.proto.values.dims) or values.ndim != 1:
            raise ValueError(f"its values have shape {list(self.proto.values.dims)}, not [count]")
        if list(indices.shape) != list(self.proto.indices.dims):
            raise ValueError(f"its indices have shape {list(self.proto.indices.dims)}")
        if indices.shape not in ((values.size,), (values.size, len(self.shape))):
            raise ValueError(f"{values.shape} values have indices of shape {indices.shape}")
        if indices.dtype != np.int64:
            raise ValueError(f"its indices are {indices.dtype}, where ONNX has int64")
        limits = np.array(self.shape) if indices.ndim == 2 else np.array(math.prod(self.shape))
        if (indices < 0).any() or (indices >= limits).any():
            raise ValueError("an index lies outside")

    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        return elements.to_array(self.proto.values), elements.to_array(self.proto.indices)


def why_not_sparse(shape: tuple[int, ...], dtype: np.dtype) -> str | None:
    """Why onnxruntime, or we, would not take such a tensor as sparse; None if it is taken."""
    if dtype.kind == "O":
        return "strings are not stored sparse"
    if dtype.name in SUB_BYTE_BITS:
        return f"onnxruntime takes no sparse {dtype}"
    if stored_bytes(shape, dtype) > MAX_DENSE_BYTES:
        return f"{list(shape)} is over 2 GiB when spread out"
    return None


def read_sparse(proto: onnx.SparseTensorProto, shape: tuple[int, ...], name: str) -> SparseArray:
    """A message as an array; no memory is taken for its zeros.

    Args:
        proto: what a file holds; not kept.
        shape: its dims, none of them negative.
        name: what to call it in errors.

    Raises:
        ModelError: values and indices do not fit each other or the shape, lie in another file, or
            would take over 2 GiB when spread out.
    """
    refuse_external(proto)
    dtype = elements.dtype_of(proto.values.data_type)
    if dtype.kind == "O" or stored_bytes(shape, dtype) > MAX_DENSE_BYTES:
        raise ModelError(f"sparse tensor {name!r}: {why_not_sparse(shape, dtype)}")
    copy = onnx.SparseTensorProto()
    copy.CopyFrom(proto)
    stored = SparseArray(proto=copy, shape=shape, dtype=dtype)
    try:
        stored.check()
    except (ValueError, TypeError) as fault:
        raise ModelError(f"sparse tensor {name!r} of {list(shape)}: {fault}") from fault
    return stored


def refuse_external(proto: onnx.SparseTensorProto) -> None:
    """Raises a `ModelError` if values or indices lie in a file beside the model."""
    for part in (proto.values, proto.indices):
        if part.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(
                f"sparse tensor {proto.values.name!r} lies in an external file, which "
                "onnxcompress does not read; store it in the model"
            )
