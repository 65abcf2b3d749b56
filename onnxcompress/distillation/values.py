"""What flows through a graph in PyTorch, and how it gets there from numpy and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import ml_dtypes
import numpy as np
import torch

from onnxcompress.errors import ModelError
from onnxcompress.ir import elements

Value: TypeAlias = torch.Tensor | list[torch.Tensor] | None
"""A tensor, a sequence of tensors, or an optional that is empty."""

_NUMPY_TO_TORCH: dict[np.dtype, torch.dtype] = {
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
    np.dtype(np.int8): torch.int8,
    np.dtype(np.int16): torch.int16,
    np.dtype(np.int32): torch.int32,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.uint16): torch.uint16,
    np.dtype(np.uint32): torch.uint32,
    np.dtype(np.uint64): torch.uint64,
    np.dtype(np.bool_): torch.bool,
    np.dtype(np.complex64): torch.complex64,
    np.dtype(np.complex128): torch.complex128,
}

_CARRIED: dict[np.dtype, np.dtype] = {
    np.dtype(ml_dtypes.int4): np.dtype(np.int8),
    np.dtype(ml_dtypes.int2): np.dtype(np.int8),
    np.dtype(ml_dtypes.uint4): np.dtype(np.uint8),
    np.dtype(ml_dtypes.uint2): np.dtype(np.uint8),
}
"""Integers below 8 bits, which torch computes nothing with, and what carries them."""

_BIT_TWINS: dict[np.dtype, tuple[torch.dtype, np.dtype]] = {
    np.dtype(ml_dtypes.bfloat16): (torch.bfloat16, np.dtype(np.int16)),
    np.dtype(ml_dtypes.float8_e4m3fn): (torch.float8_e4m3fn, np.dtype(np.uint8)),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (torch.float8_e4m3fnuz, np.dtype(np.uint8)),
    np.dtype(ml_dtypes.float8_e5m2): (torch.float8_e5m2, np.dtype(np.uint8)),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (torch.float8_e5m2fnuz, np.dtype(np.uint8)),
}
"""Floats that numpy knows by name only: their torch type, and integers of the same bits."""


def to_torch(array: np.ndarray, precision: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor of an array's values; it never shares the array's memory.

    Args:
        array: any element type ONNX has but text.
        precision: what float32 becomes.

    Raises:
        ModelError: the array holds text.
    """
    dtype = array.dtype
    if dtype in _CARRIED:
        return torch.from_numpy(array.astype(_CARRIED[dtype]))
    if dtype in _BIT_TWINS:
        torch_type, bits = _BIT_TWINS[dtype]
        return torch.from_numpy(np.array(array, order="C").view(bits)).view(torch_type)
    if dtype not in _NUMPY_TO_TORCH:
        raise ModelError(f"{dtype} tensors have no counterpart in PyTorch")
    tensor = torch.from_numpy(np.array(array, order="C"))
    return tensor.to(precision) if dtype == np.float32 else tensor


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """An array of a tensor's values; bfloat16 and float8 come as float32."""
    tensor = tensor.detach()
    if tensor.dtype in {twin for twin, _ in _BIT_TWINS.values()}:
        tensor = tensor.float()
    return tensor.numpy()


def torch_type(onnx_type: int, precision: torch.dtype = torch.float32) -> torch.dtype:
    """The torch type that carries an ONNX element type (a `TensorProto.DataType`).

    Raises:
        ModelError: PyTorch has none.
    """
    dtype = elements.dtype_of(onnx_type)
    dtype = _CARRIED.get(dtype, dtype)
    if dtype == np.float32:
        return precision
    if dtype in _BIT_TWINS:
        return _BIT_TWINS[dtype][0]
    if dtype not in _NUMPY_TO_TORCH:
        raise ModelError(f"{dtype} tensors have no counterpart in PyTorch")
    return _NUMPY_TO_TORCH[dtype]


def integers(tensor: torch.Tensor) -> tuple[int, ...]:
    """The numbers of a tensor that says where or how many: axes, shapes, pads, repeats."""
    return tuple(int(each) for each in tensor.reshape(-1).tolist())


def as_tensor(value: Value) -> torch.Tensor:
    """A value that is known to be a tensor."""
    assert isinstance(value, torch.Tensor), f"a {type(value).__name__} where a tensor belongs"
    return value


def normal_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front."""
    return tuple(axis % rank if rank else 0 for axis in axes)
