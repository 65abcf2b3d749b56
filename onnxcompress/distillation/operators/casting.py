"""From one element type to another.

Source: ONNX Cast, CastLike (opsets 6 to 25), BitCast (opset 26).
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import torch

from onnxcompress.distillation.call import Call, Table
from onnxcompress.errors import ModelError
from onnxcompress.ir import elements

_SUB_BYTE = {
    elements.INT4,
    elements.UINT4,
    elements.INT2,
    elements.UINT2,
}
_SUB_BYTE_ARRAYS = {
    np.dtype(each) for each in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2)
}
_FLOAT8 = {
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
}


def _converted(call: Call, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if dtype in _FLOAT8 and x.dtype not in _FLOAT8:
        if not call.integer("saturate", 1):
            raise call.unsupported("casts to float8 that do not saturate are not computed")
        largest = torch.finfo(dtype).max
        return torch.clamp(x.float(), -largest, largest).to(dtype)
    return x.to(dtype)


def _target(call: Call) -> torch.dtype:
    kind = call.integer("to", onnx.TensorProto.FLOAT)
    named = kind in onnx.TensorProto.DataType.values()  # the installed onnx may be older
    name = onnx.TensorProto.DataType.Name(kind) if named else f"element type {kind}"
    if kind in _SUB_BYTE:
        raise call.unsupported(f"casts to {name} are not computed")
    try:
        return call.type("to", onnx.TensorProto.FLOAT)
    except ModelError as fault:
        raise call.unsupported(f"there is no {name} in PyTorch") from fault


def _cast(call: Call, x: torch.Tensor) -> torch.Tensor:
    return _converted(call, x, _target(call))


def _cast_like(call: Call, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if call.node.inputs[1].dtype in _SUB_BYTE_ARRAYS:
        raise call.unsupported("casts to integers below 8 bits are not computed")
    return _converted(call, x, like.dtype)


def _bit_cast(call: Call, x: torch.Tensor) -> torch.Tensor:
    dtype = _target(call)
    if dtype.itemsize != x.itemsize:
        raise call.unsupported(f"there are other bits in {x.dtype} than in {dtype}")
    return x.view(dtype)


TABLE: Table = {"BitCast": _bit_cast, "Cast": _cast, "CastLike": _cast_like}
