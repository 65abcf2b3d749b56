"""Interpolation along axes.

Each axis is resized by itself: every output position reads a few input positions ("taps") and
weighs them. Positions are found in float32, as onnxruntime does, so that ties fall the same way.

Source: ONNX Resize (opsets 10 to 19), Upsample (opsets 7 and 9).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.values import integers, normal_axes


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized.

    Attributes:
        axis: which.
        old: its length.
        new: its length afterwards.
        scale: the ratio that positions are computed with; not always `new / old`.
        start: where the region of interest begins, as a share of the axis.
        end: where it ends.
    """

    axis: int
    old: int
    new: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class _Taps:
    """What one axis reads: two tensors of [new, taps], and which positions lie outside, [new]."""

    at: torch.Tensor
    weights: torch.Tensor
    outside: torch.Tensor


def _half_pixel(x: torch.Tensor, axis: _Axis) -> torch.Tensor:
    return (x + 0.5) / axis.scale - 0.5


def _pytorch_half_pixel(x: torch.Tensor, axis: _Axis) -> torch.Tensor:
    return _half_pixel(x, axis) if axis.new > 1 else torch.zeros_like(x)


def _half_pixel_symmetric(x: torch.Tensor, axis: _Axis) -> torch.Tensor:
    stretch = axis.new / (x.new_tensor(axis.scale) * axis.old)
    return axis.old / 2 * (1 - stretch) + (x + 0.5) / axis.scale - 0.5


def _align_corners(x: torch.Tensor, axis: _Axis) -> torch.Tensor:
    return x * (axis.old - 1) / (axis.new - 1) if axis.new > 1 else torch.zeros_like(x)


def _asymmetric(x: torch.Tensor, axis: _Axis) -> torch.Tensor:
    return x / axis.scale


def _tf_half_pixel_for_nn(x: torch.Tensor, axis: _Axis) -> torch.Tensor:
    return (x + 0.5) / axis.scale


def _tf_crop_and_resize(x: torch.Tensor, axis: _Axis) -> torch.Tensor:
    last = axis.old - 1
    if axis.new == 1:
        return torch.full_like(x, 0.5 * (axis.start + axis.end) * last)
    return axis.start * last + x * (axis.end - axis.start) * last / (axis.new - 1)


_COORDINATES: dict[str, Callable[[torch.Tensor, _Axis], torch.Tensor]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
    "tf_crop_and_resize": _tf_crop_and_resize,
}

_NEAREST: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def _triangle(distance: torch.Tensor) -> torch.Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _keys(a: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """The cubic kernel of Keys 1981, with its coefficient."""

    def kernel(distance: torch.Tensor) -> torch.Tensor:
        x = distance.abs()
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))

    return kernel


def _nearest_taps(axis: _Axis, x: torch.Tensor, mode: str) -> _Taps:
    at = _NEAREST[mode](x).clamp(0, axis.old - 1).long()[:, None]
    return _Taps(at, torch.ones_like(at, dtype=x.dtype), _outside(axis, x))


def _outside(axis: _Axis, x: torch.Tensor) -> torch.Tensor:
    return (x < 0) | (x > axis.old - 1)


def _kernel_taps(
    axis: _Axis,
    x: torch.Tensor,
    kernel: Callable[[torch.Tensor], torch.Tensor],
    reach: int,
    antialias: bool,
    exclude_outside: bool,
) -> _Taps:
    """Taps of a kernel around each position.

    Args:
        axis: what is resized.
        x: the positions, [new].
        kernel: weight by distance.
        reach: distance from which on the weight is zero.
        antialias: whether the kernel widens when the axis shrinks.
        exclude_outside: whether taps beyond the ends count nothing, rather than what the end holds.
    """
    stretch = max(1.0 / axis.scale, 1.0) if antialias else 1.0
    if stretch == 1.0:
        first, count = x.floor() - (reach - 1), 2 * reach
    else:
        first, count = (x - reach * stretch).floor() + 1, math.ceil(2 * reach * stretch) + 1
    at = first[:, None] + torch.arange(count)
    weights = kernel((at - x[:, None]) / stretch)
    inside = (at >= 0) & (at <= axis.old - 1)
    if exclude_outside:
        weights = torch.where(inside, weights, 0.0)
    if exclude_outside or stretch != 1.0:
        weights = weights / weights.sum(1, keepdim=True)
    return _Taps(at.clamp(0, axis.old - 1).long(), weights, _outside(axis, x))


def _read(values: torch.Tensor, axis: int, taps: _Taps) -> torch.Tensor:
    """The weighted sum of what the taps read along an axis."""
    shape = (-1, *(1,) * (values.dim() - axis - 1))
    weights = taps.weights.to(values.dtype)
    total = values.index_select(axis, taps.at[:, 0]) * weights[:, 0].reshape(shape)
    for tap in range(1, taps.at.shape[1]):
        part = values.index_select(axis, taps.at[:, tap])
        total = total + part * weights[:, tap].reshape(shape)
    return total


def _interpolate(
    call: Call, x: torch.Tensor, axes: Sequence[_Axis], coordinates: str, nearest: str
) -> torch.Tensor:
    mode, cropped = call.text("mode", "nearest"), coordinates == "tf_crop_and_resize"
    if mode not in ("nearest", "linear", "cubic"):
        raise call.unsupported(f"mode {mode}")
    cubic, antialias = mode == "cubic", bool(call.integer("antialias", 0))
    exclude = (cubic or antialias) and bool(call.integer("exclude_outside", 0))
    kernel = _keys(call.real("cubic_coeff_a", -0.75)) if cubic else _triangle
    y = x if mode == "nearest" or x.is_floating_point() else x.to(call.precision)
    outside: list[tuple[int, torch.Tensor]] = []
    for axis in axes:
        if axis.scale == 1.0 and axis.old == axis.new and not cropped:
            continue
        moments = torch.arange(axis.new, dtype=torch.float32)
        positions = _COORDINATES[coordinates](moments, axis)
        if mode == "nearest":
            taps = _nearest_taps(axis, positions, nearest)
            y = y.index_select(axis.axis, taps.at[:, 0])
        else:
            inside = positions if cubic or antialias else positions.clamp(0, axis.old - 1)
            taps = _kernel_taps(axis, inside, kernel, 2 if cubic else 1, antialias, exclude)
            y = _read(y, axis.axis, taps)
        outside.append((axis.axis, _outside(axis, positions)))
    if cropped:
        beyond = call.real("extrapolation_value", 0.0)
        for at, mask in outside:
            y = torch.where(mask.reshape(-1, *(1,) * (y.dim() - at - 1)), beyond, y).to(y.dtype)
    return y.to(x.dtype)


def _legacy(call: Call, x: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
    """Resize of opset 10 and Upsample: positions are divided by the scale, and cut."""
    for axis, scale in enumerate(scales):
        each = [_Axis(axis, x.shape[axis], int(_single(scale * x.shape[axis])), scale)]
        x = _interpolate(call, x, each, "asymmetric", "ceil" if scale < 1 else "floor")
    return x


def _single(number: float) -> float:
    """A number rounded to float32."""
    return float(torch.tensor(number, dtype=torch.float32))


def _upsample(call: Call, x: torch.Tensor, scales: torch.Tensor | None = None) -> torch.Tensor:
    return _legacy(call, x, call.reals("scales") if scales is None else scales.tolist())


def _resize(
    call: Call,
    x: torch.Tensor,
    roi: torch.Tensor | None = None,
    scales: torch.Tensor | None = None,
    sizes: torch.Tensor | None = None,
) -> torch.Tensor:
    if call.opset < 11:
        assert roi is not None  # where opset 10 has its scales
        return _legacy(call, x, roi.tolist())
    chosen = normal_axes(call.integers("axes", range(x.dim())), x.dim())
    if sizes is not None and sizes.numel():
        axes = _to_sizes(call, x, chosen, integers(sizes))
    else:
        assert scales is not None
        axes = [
            _Axis(axis, x.shape[axis], math.floor(_single(scale * x.shape[axis])), scale)
            for axis, scale in zip(chosen, scales.tolist(), strict=True)
        ]
    coordinates = call.text("coordinate_transformation_mode", "half_pixel")
    if coordinates == "tf_crop_and_resize" and roi is not None:
        starts, ends = roi.reshape(2, -1).tolist()
        axes = [
            _Axis(each.axis, each.old, each.new, each.scale, start, end)
            for each, start, end in zip(axes, starts, ends, strict=True)
        ]
    nearest = call.text("nearest_mode", "round_prefer_floor")
    return _interpolate(call, x, axes, coordinates, nearest)


def _to_sizes(
    call: Call, x: torch.Tensor, chosen: Sequence[int], sizes: Sequence[int]
) -> list[_Axis]:
    ratios = [_single(size / x.shape[axis]) for axis, size in zip(chosen, sizes, strict=True)]
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [ratio] * len(ratios)
        sizes = [math.floor(_single(ratio * x.shape[axis]) + 0.5) for axis in chosen]
    return [
        _Axis(axis, x.shape[axis], size, ratio)
        for axis, size, ratio in zip(chosen, sizes, ratios, strict=True)
    ]


TABLE: Table = {"Resize": _resize, "Upsample": _upsample}
