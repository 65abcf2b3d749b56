"""Normalizations: to zero mean and unit variance, or to unit length.

Source: ONNX BatchNormalization (opset 15), InstanceNormalization (opset 22), LayerNormalization
(opset 17), GroupNormalization (opsets 18 and 21), RMSNormalization (opset 23), LpNormalization
(opset 22), MeanVarianceNormalization (opset 13), LRN (opset 13); onnxruntime's
SimplifiedLayerNormalization.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.values import normal_axes

_MVN_EPSILON = 1e-9


def _batch_normalization(
    call: Call,
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    if call.opset < 9 and not call.integer("spatial", 1):
        raise call.unsupported("spatial=0, statistics for each position")
    training = call.integer("training_mode", 0)
    if call.outputs() > 1 and not training:
        raise call.unsupported("outputs of statistics outside training_mode")
    epsilon = call.real("epsilon", 1e-5)
    if training:
        now, spread = _moments(x)
        kept = call.real("momentum", 0.9)
        running = (mean * kept + now * (1 - kept), variance * kept + spread * (1 - kept))
        return _normalized(x, scale, bias, now, spread, epsilon), *running
    if mean.requires_grad or variance.requires_grad:  # torch's kernel has no gradient for these
        return _normalized(x, scale, bias, mean, variance, epsilon)
    mean, variance, scale, bias = (each.to(x.dtype) for each in (mean, variance, scale, bias))
    return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each channel."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    variance, mean = torch.var_mean(x, axes, correction=0)
    return mean, variance


def _normalized(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    factor = scale * torch.rsqrt(variance + epsilon)
    shape = (-1, *(1,) * (x.dim() - 2))
    y: torch.Tensor = x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)
    return y


def _instance_normalization(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    return torch.group_norm(x, x.shape[1], scale, bias, call.real("epsilon", 1e-5))


def _group_normalization(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    groups = call.integer("num_groups", 1)
    if call.opset < 21:  # one number a group
        each = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return torch.group_norm(x, groups, scale, bias, call.real("epsilon", 1e-5))


def _layer_normalization(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    (axis,) = normal_axes([call.integer("axis", -1)], x.dim())
    shape, epsilon = x.shape[axis:], call.real("epsilon", 1e-5)
    scale = scale.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if scale.shape == shape and (bias is None or bias.shape == shape):
        y = functional.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = functional.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if call.outputs() < 2:
        return y
    axes = tuple(range(axis, x.dim()))
    wide = x.to(call.type("stash_type", onnx.TensorProto.FLOAT))
    mean = wide.mean(axes, keepdim=True)
    spread = ((wide - mean) ** 2).mean(axes, keepdim=True)
    return y, mean, torch.rsqrt(spread + epsilon)


def root_mean_square(
    x: torch.Tensor,
    scale: torch.Tensor,
    axes: Sequence[int],
    epsilon: float,
    stash: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMSNorm (Zhang and Sennrich 2019), and the factor it used.

    Args:
        x: what is normalized.
        scale: broadcasts to `x`.
        axes: what the mean of squares is taken over.
        epsilon: added to that mean.
        stash: the type it is computed in.
    """
    wide = x.to(stash)
    inverse = torch.rsqrt((wide * wide).mean(tuple(axes), keepdim=True) + epsilon)
    return (wide * inverse).to(x.dtype) * scale, inverse


def _rms_normalization(
    call: Call, x: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    (axis,) = normal_axes([call.integer("axis", -1)], x.dim())
    stash = call.type("stash_type", onnx.TensorProto.FLOAT)
    axes, epsilon = range(axis, x.dim()), call.real("epsilon", 1e-5)
    y, inverse = root_mean_square(x, scale, axes, epsilon, stash)
    return (y, inverse) if call.outputs() > 1 else y


def _lp_normalization(call: Call, x: torch.Tensor) -> torch.Tensor:
    axis = call.integer("axis", -1)
    if call.integer("p", 2) == 1:
        length = x.abs().sum(axis, keepdim=True)
    else:
        square = (x**2).sum(axis, keepdim=True)
        length = torch.where(square == 0, 1.0, square).sqrt().to(x.dtype)
    return x / torch.where(length == 0, 1.0, length).to(x.dtype)


def _mean_variance_normalization(call: Call, x: torch.Tensor) -> torch.Tensor:
    axes = call.integers("axes", (0, 2, 3))
    if call.opset < 9 and not call.has("axes"):
        axes = (0, 1, 2, 3) if call.integer("across_channels", 0) else (0, 2, 3)
    centered = x - x.mean(axes, keepdim=True)
    if call.opset < 9 and not call.integer("normalize_variance", 1):
        return centered
    return centered / ((centered**2).mean(axes, keepdim=True).sqrt() + _MVN_EPSILON)


def _lrn(call: Call, x: torch.Tensor) -> torch.Tensor:
    size = call.integer("size", 1)
    before = (size - 1) // 2
    planes = (x**2).reshape(x.shape[0], 1, x.shape[1], -1)
    padded = functional.pad(planes, (0, 0, before, size - 1 - before))
    mean = functional.avg_pool2d(padded, (size, 1), (1, 1)).reshape(x.shape)
    base = call.real("bias", 1.0) + call.real("alpha", 1e-4) * mean
    return x / base ** call.real("beta", 0.75)


TABLE: Table = {
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _group_normalization,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "SimplifiedLayerNormalization": _rms_normalization,
    "com.microsoft::SimplifiedLayerNormalization": _rms_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "LRN": _lrn,
}
