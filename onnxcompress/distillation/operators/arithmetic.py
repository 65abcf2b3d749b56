"""Element by element: sums, products, powers, functions of one number.

Source: ONNX Add, Div, Mod, Pow, Clip, Round and their kin (opsets 7 to 25).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Operator, Table
from onnxcompress.distillation.operators.unsigned import table_in_int64

Unary = Callable[[torch.Tensor], torch.Tensor]
Binary = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def unary(function: Unary) -> Operator:
    """An operator of one tensor that reads no attribute."""

    def operator(call: Call, x: torch.Tensor) -> torch.Tensor:
        del call
        return function(x)

    return operator


def binary(function: Binary) -> Operator:
    """An operator of two tensors, broadcast, that reads no attribute."""

    def operator(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        del call
        return function(a, b)

    return operator


def _variadic(function: Binary) -> Operator:
    def operator(call: Call, *tensors: torch.Tensor) -> torch.Tensor:
        del call
        return reduce(function, tensors)

    return operator


def _mean(call: Call, *tensors: torch.Tensor) -> torch.Tensor:
    del call
    return reduce(torch.add, tensors) / len(tensors)


def _div(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    del call
    if a.is_floating_point() or a.is_complex():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _mod(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.fmod(a, b) if call.integer("fmod", 0) else torch.remainder(a, b)


def _pow(call: Call, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    del call
    if not x.is_floating_point():
        if not y.is_floating_point() and not bool((y < 0).any()):
            return torch.pow(x, y).to(x.dtype)
        return torch.pow(x.double(), y.double()).to(x.dtype)
    if y.numel() == 1 and y.dim() <= x.dim() and not y.requires_grad:
        return torch.pow(x, y.item())  # squares and roots have kernels of their own
    return torch.pow(x, y.to(x.dtype))


def _clip(
    call: Call,
    x: torch.Tensor,
    low: torch.Tensor | None = None,
    high: torch.Tensor | None = None,
) -> torch.Tensor:
    if call.opset < 11:
        low_number = call.real("min", 0.0) if call.has("min") else None
        high_number = call.real("max", 0.0) if call.has("max") else None
    elif any(bound is not None and bound.requires_grad for bound in (low, high)):
        return torch.clamp(x, low, high)
    else:
        low_number = None if low is None else low.item()
        high_number = None if high is None else high.item()
    if low_number is None and high_number is None:
        return x
    # These two go back in one pass over the tensor, clamp in five.
    if low_number == 0 and high_number is None:
        return torch.relu(x)
    if low_number is None or high_number is None or not x.is_floating_point():
        return torch.clamp(x, low_number, high_number)
    # Where the bounds cross, the upper one holds everywhere.
    return functional.hardtanh(x, min(low_number, high_number), high_number)


class _Erf(torch.autograd.Function):
    """The error function, which goes back in three passes over the tensor, not six."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.erf(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        exponent = torch.addcmul(_LOG_OF_ERF_SLOPE.to(x.dtype), x, x, value=-1)
        return exponent.exp() * gradient


_LOG_OF_ERF_SLOPE = torch.tensor(2 / math.sqrt(math.pi), dtype=torch.float64).log()
"""Of the error function's slope at zero."""


def _erf(x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _Erf.apply(x)  # type: ignore[no-untyped-call]
    return found


def _is_inf(call: Call, x: torch.Tensor) -> torch.Tensor:
    x = x.float() if x.itemsize == 1 else x
    found = torch.zeros_like(x, dtype=torch.bool)
    if call.integer("detect_positive", 1):
        found = found | torch.isposinf(x)
    if call.integer("detect_negative", 1):
        found = found | torch.isneginf(x)
    return found


def _is_nan(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    return torch.isnan(x.float() if x.itemsize == 1 else x)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


def _whole_stays(function: Unary) -> Operator:
    """Rounding, which leaves integers alone."""
    return unary(lambda x: function(x) if x.is_floating_point() else _same(x))


TABLE: Table = table_in_int64(
    {
        "Abs": unary(torch.abs),
        "Acos": unary(torch.acos),
        "Acosh": unary(torch.acosh),
        "Add": binary(torch.add),
        "Asin": unary(torch.asin),
        "Asinh": unary(torch.asinh),
        "Atan": unary(torch.atan),
        "Atanh": unary(torch.atanh),
        "Ceil": _whole_stays(torch.ceil),
        "Clip": _clip,
        "Cos": unary(torch.cos),
        "Cosh": unary(torch.cosh),
        "Div": _div,
        "Erf": unary(_erf),
        "Exp": unary(torch.exp),
        "Floor": _whole_stays(torch.floor),
        "IsInf": _is_inf,
        "IsNaN": _is_nan,
        "Log": unary(torch.log),
        "Max": _variadic(torch.maximum),
        "Mean": _mean,
        "Min": _variadic(torch.minimum),
        "Mod": _mod,
        "Mul": binary(torch.mul),
        "Neg": unary(torch.neg),
        "Pow": _pow,
        "Reciprocal": unary(torch.reciprocal),
        "Round": _whole_stays(torch.round),  # half to even, as ONNX wants it
        "Sign": unary(torch.sign),
        "Sin": unary(torch.sin),
        "Sinh": unary(torch.sinh),
        "Sqrt": unary(torch.sqrt),
        "Sub": binary(torch.sub),
        "Sum": _variadic(torch.add),
        "Tan": unary(torch.tan),
    }
)
