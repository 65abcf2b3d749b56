"""Comparisons, truth values, bits, and the choice between two tensors.

Source: ONNX Equal, And, BitShift, Where and their kin (opsets 7 to 25).
"""

from __future__ import annotations

import torch

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.operators.arithmetic import binary, unary
from onnxcompress.distillation.operators.unsigned import table_in_int64


def _where(call: Call, condition: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    del call
    return torch.where(condition, a, b)


def _bit_shift(call: Call, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    if call.text("direction", "") == "LEFT":
        return torch.bitwise_left_shift(x, by)
    return torch.bitwise_right_shift(x, by)


_COMPARISONS: Table = {
    "Equal": binary(torch.eq),
    "Greater": binary(torch.gt),
    "GreaterOrEqual": binary(torch.ge),
    "Less": binary(torch.lt),
    "LessOrEqual": binary(torch.le),
}

_BITS: Table = {
    "BitShift": _bit_shift,
    "BitwiseAnd": binary(torch.bitwise_and),
    "BitwiseNot": unary(torch.bitwise_not),
    "BitwiseOr": binary(torch.bitwise_or),
    "BitwiseXor": binary(torch.bitwise_xor),
}

TABLE: Table = {
    "And": binary(torch.logical_and),
    "Not": unary(torch.logical_not),
    "Or": binary(torch.logical_or),
    "Where": _where,
    "Xor": binary(torch.logical_xor),
    **table_in_int64(_COMPARISONS),
    **table_in_int64(_BITS),
}
