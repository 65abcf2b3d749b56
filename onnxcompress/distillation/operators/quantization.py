"""Quantization that lets gradients through.

Where a gradient is asked for, QuantizeLinear gives a float tensor that holds integers: rounding
counts as the identity (straight-through; Bengio et al. 2013), what saturates gets no gradient, and
the scale and the zero point get what follows: the gradients of LSQ (Esser et al. 2020) and LSQ+
(Bhalgat et al. 2020). Otherwise it gives plain integers.

Source: ONNX QuantizeLinear and DequantizeLinear (opset 25), DynamicQuantizeLinear (opset 11),
QLinearMatMul (opset 21), QLinearConv (opset 10).
"""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx
import torch

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.operators.convolution import convolve
from onnxcompress.distillation.values import torch_type
from onnxcompress.ir import elements
from onnxcompress.quantization.qparams import SIGNED, UNSIGNED, integer_limits

_INTEGERS = {*SIGNED.values(), *UNSIGNED.values()}
_FLOAT8: dict[np.dtype, torch.dtype] = {
    np.dtype(ml_dtypes.float8_e4m3fn): torch.float8_e4m3fn,
    np.dtype(ml_dtypes.float8_e4m3fnuz): torch.float8_e4m3fnuz,
    np.dtype(ml_dtypes.float8_e5m2): torch.float8_e5m2,
    np.dtype(ml_dtypes.float8_e5m2fnuz): torch.float8_e5m2fnuz,
}


class _RoundThrough(torch.autograd.Function):
    """Rounds to nearest, ties to even; its gradient is the identity's."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        del ctx
        return x.round()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        del ctx
        return gradient


class _Float8Through(torch.autograd.Function):
    """Rounds to a float8 type; its gradient is the identity's."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        del ctx
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        del ctx
        return gradient, None


def round_through(x: torch.Tensor) -> torch.Tensor:
    """Rounds to nearest, ties to even, with the gradient of the identity."""
    rounded: torch.Tensor = _RoundThrough.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def float8_through(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Rounds to a float8 type and keeps its own, with the gradient of the identity."""
    rounded: torch.Tensor = _Float8Through.apply(x, dtype)  # type: ignore[no-untyped-call]
    return rounded


def broadcast_scale(
    scale: torch.Tensor, shape: Sequence[int], axis: int = 1, block_size: int = 0
) -> torch.Tensor:
    """A scale or zero point in a shape that broadcasts to the tensor it belongs to.

    Args:
        scale: one number; [shape[axis]]; or, in blocks, the tensor's shape with that axis divided
            by the block size, rounded up.
        shape: of the tensor.
        axis: where a scale per slice or block lies.
        block_size: elements that share a scale along the axis; 0 unless there are blocks.
    """
    if scale.dim() == 0:
        return scale
    axis %= max(len(shape), 1)
    if block_size and scale.dim() == len(shape):
        spread = scale.unsqueeze(axis + 1)
        repeats = [-1] * spread.dim()
        repeats[axis + 1] = block_size
        return spread.expand(repeats).flatten(axis, axis + 1).narrow(axis, 0, shape[axis])
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape(-1, *(1,) * (len(shape) - axis - 1))


def quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None,
    low: int,
    high: int,
    axis: int = 1,
    block_size: int = 0,
) -> torch.Tensor:
    """The integers for real values, as floats; straight-through gradients.

    `clamp(round(x / scale) + zero_point, low, high)`. For x the gradient of the quotient where that
    lies inside the range, zero where it saturates; the scale and the zero point likewise, so that
    with `dequantize` after it they get the gradients of LSQ and LSQ+.

    Args:
        x: real values.
        scale: > 0; see `broadcast_scale`.
        zero_point: shaped like the scale, of any type; rounded if it is trained. None for 0.
        low: the least integer.
        high: the greatest integer.
        axis: see `broadcast_scale`.
        block_size: see `broadcast_scale`.
    """
    levels = x / broadcast_scale(scale, x.shape, axis, block_size)
    offset = _offset(zero_point, levels, axis, block_size)
    if offset is None:
        return round_through(levels.clamp(low, high))
    # The range moves, not the quotient: ties go to even before the zero point is added.
    if isinstance(offset, float):
        return round_through(levels.clamp(low - offset, high - offset)) + offset
    return round_through(torch.clamp(levels, low - offset, high - offset)) + offset


def _offset(
    zero_point: torch.Tensor | None, values: torch.Tensor, axis: int, block_size: int
) -> torch.Tensor | float | None:
    """A zero point as cheap to use as it can be: nothing, a number, or a tensor that broadcasts."""
    if zero_point is None:
        return None
    offset = zero_point.to(values.dtype)
    if offset.requires_grad:
        return broadcast_scale(round_through(offset), values.shape, axis, block_size)
    if not offset.any():
        return None
    if offset.numel() == 1:
        return float(offset)
    return broadcast_scale(offset, values.shape, axis, block_size)


def dequantize(
    integers: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None,
    axis: int = 1,
    block_size: int = 0,
) -> torch.Tensor:
    """The real values that integers stand for, in the scale's type.

    Args:
        integers: of an integer or float8 type, or floats that hold such values.
        scale: see `broadcast_scale`.
        zero_point: shaped like the scale, of any type; rounded if it is trained. None for 0.
        axis: see `broadcast_scale`.
        block_size: see `broadcast_scale`.
    """
    wide = integers.dtype == torch.int32  # more digits than a float has
    if wide and zero_point is not None and not zero_point.is_floating_point():
        integers = integers - broadcast_scale(zero_point, integers.shape, axis, block_size)
        zero_point = None
    values = integers.to(scale.dtype)
    offset = _offset(zero_point, values, axis, block_size)
    if offset is not None:
        values = values - offset
    return values * broadcast_scale(scale, values.shape, axis, block_size)


def _is_trained(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in tensors
    )


def _target(call: Call, zero_point: torch.Tensor | None, position: int) -> np.dtype:
    """The element type that a node quantizes to."""
    if zero_point is not None:
        declared = call.node.inputs[position].dtype
        if declared is not None:
            return np.dtype(declared)
        if zero_point.dtype in _FLOAT8.values():
            return next(named for named, dtype in _FLOAT8.items() if dtype == zero_point.dtype)
        if zero_point.is_floating_point():
            raise call.unsupported("a float zero point whose ONNX type the file does not say")
        return np.dtype(str(zero_point.dtype).removeprefix("torch."))
    named = call.integer("output_dtype", 0) or onnx.TensorProto.UINT8
    return elements.dtype_of(named)


def _quantize_linear(
    call: Call, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    axis, block = call.integer("axis", 1), call.integer("block_size", 0)
    target = _target(call, zero_point, 2)
    trained = _is_trained(x, scale, zero_point)
    if target in _FLOAT8:
        levels = x / broadcast_scale(scale, x.shape, axis, block)
        dtype = _FLOAT8[target]
        if call.integer("saturate", 1):
            largest = torch.finfo(dtype).max
            levels = levels.clamp(-largest, largest)
        if trained:
            return float8_through(levels, dtype)
        return levels.to(dtype)
    if target not in _INTEGERS:
        raise call.unsupported(f"quantization to {target}")
    levels = quantize(x, scale, zero_point, *integer_limits(target), axis, block)
    return levels if trained else levels.to(_carrier(target))


def _carrier(target: np.dtype) -> torch.dtype:
    return torch_type(elements.type_of(target))


def _dequantize_linear(
    call: Call, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    if x.dtype in _FLOAT8.values():
        zero_point = None  # zero, says the specification
    axis, block = call.integer("axis", 1), call.integer("block_size", 0)
    y = dequantize(x, scale, zero_point, axis, block)
    named = call.integer("output_dtype", 0)
    return y.to(torch_type(named, call.precision)) if named else y


def _dynamic_quantize_linear(
    call: Call, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    del call
    low = x.min().clamp(max=0.0) if x.numel() else x.new_zeros(())
    high = x.max().clamp(min=0.0) if x.numel() else x.new_zeros(())
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = round_through((-low / scale).clamp(0, 255))
    integers = quantize(x, scale, zero_point, 0, 255)
    if _is_trained(x):
        return integers, scale, zero_point
    return integers.to(torch.uint8), scale, zero_point.to(torch.uint8)


def _requantize(
    call: Call, y: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, position: int
) -> torch.Tensor:
    target = _target(call, zero_point, position)
    levels = quantize(y, scale.to(y.dtype), zero_point, *integer_limits(target))
    return levels if _is_trained(y, scale, zero_point) else levels.to(_carrier(target))


def _real(
    call: Call, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int
) -> torch.Tensor:
    """The real values of integers, wide enough to add products of theirs without rounding."""
    wide = call.precision if _is_trained(x, scale, zero_point) else torch.float64
    return dequantize(x, scale.to(wide), zero_point, axis)


def _qlinear_matmul(
    call: Call,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor,
) -> torch.Tensor:
    left = _real(call, a, a_scale, a_zero, -2)
    right = _real(call, b, b_scale, b_zero, -1)
    wide = torch.promote_types(left.dtype, right.dtype)
    product = torch.matmul(left.to(wide), right.to(wide))
    return _requantize(call, product, y_scale, y_zero, 7)


def _qlinear_conv(
    call: Call,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero: torch.Tensor,
    w: torch.Tensor,
    w_scale: torch.Tensor,
    w_zero: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor,
    b: torch.Tensor | None = None,
) -> torch.Tensor:
    real_x, real_w = _real(call, x, x_scale, x_zero, 1), _real(call, w, w_scale, w_zero, 0)
    wide = torch.promote_types(real_x.dtype, real_w.dtype)
    real_b = None if b is None else b.to(wide) * (x_scale.to(wide) * w_scale.to(wide)).reshape(-1)
    if real_b is not None and real_b.numel() == 1:
        real_b = real_b.expand(w.shape[0])
    y = convolve(call, real_x.to(wide), real_w.to(wide), real_b)
    return _requantize(call, y, y_scale, y_zero, 7)


TABLE: Table = {
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic_quantize_linear,
    "QLinearMatMul": _qlinear_matmul,
    "QLinearConv": _qlinear_conv,
    "com.microsoft::QuantizeLinear": _quantize_linear,
    "com.microsoft::DequantizeLinear": _dequantize_linear,
}
