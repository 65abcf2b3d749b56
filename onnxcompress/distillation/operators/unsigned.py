"""Unsigned integers of 16 bits and more, which PyTorch stores but hardly computes with."""

from __future__ import annotations

from functools import wraps
from typing import TypeGuard

import torch

from onnxcompress.distillation.call import Call, Operator, Table
from onnxcompress.distillation.values import Value

_WIDE = (torch.uint16, torch.uint32, torch.uint64)


def _is_wide(value: Value) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and value.dtype in _WIDE


def computed_in_int64(function: Operator, values: int | None = None) -> Operator:
    """The operator with its wide unsigned inputs as int64, and such results turned back.

    Args:
        function: computes with int64.
        values: how many of the outputs hold values, not positions; None for all.

    Raises (when it is called):
        UnsupportedError: a value does not fit int64.
    """

    @wraps(function)
    def call_in_int64(call: Call, *inputs: Value) -> Value | tuple[Value, ...]:
        dtype = next((value.dtype for value in inputs if _is_wide(value)), None)
        if dtype is None:
            return function(call, *inputs)
        found = function(call, *(_signed(call, value) for value in inputs))
        outputs = found if isinstance(found, tuple) else (found,)
        turned = len(outputs) if values is None else values
        return tuple(
            value.to(dtype) if at < turned and _is_int64(value) else value
            for at, value in enumerate(outputs)
        )

    return call_in_int64


def table_in_int64(table: Table) -> Table:
    """`computed_in_int64` of each operator."""
    return {name: computed_in_int64(function) for name, function in table.items()}


def _is_int64(value: Value) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and value.dtype == torch.int64


def _signed(call: Call, value: Value) -> Value:
    if not _is_wide(value):
        return value
    signed = value.to(torch.int64)
    if value.dtype == torch.uint64 and bool((signed < 0).any()):
        raise call.unsupported("uint64 values of 2**63 and more are not computed with")
    return signed
