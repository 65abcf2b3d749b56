"""Values read at positions between the grid's.

Source: ONNX GridSample (opset 22), AffineGrid (opset 20), RoiAlign (opsets 10 and 16), DeformConv
(opset 22).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.operators.windows import window_of
from onnxcompress.distillation.values import integers

_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}
"""Torch's name of each mode; it says bilinear in three dimensions too."""


def _grid_sample(call: Call, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    mode = _MODES[call.text("mode", "linear")]
    if mode == "bicubic" and x.dim() != 4:
        raise call.unsupported("cubic mode in other than two dimensions")
    return functional.grid_sample(
        x,
        grid.to(x.dtype),
        mode,
        call.text("padding_mode", "zeros"),
        bool(call.integer("align_corners", 0)),
    )


def _affine_grid(call: Call, theta: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    corners = bool(call.integer("align_corners", 0))
    return functional.affine_grid(theta, list(integers(size)), corners)


def _roi_align(
    call: Call, x: torch.Tensor, rois: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    default = "half_pixel" if call.opset >= 16 else "output_half_pixel"
    half = call.text("coordinate_transformation_mode", default) == "half_pixel"
    high, wide = call.integer("output_height", 1), call.integer("output_width", 1)
    scale, ratio = call.real("spatial_scale", 1.0), call.integer("sampling_ratio", 0)
    corners = rois * scale - (0.5 if half else 0.0)
    largest = call.text("mode", "avg") == "max"
    found = []
    for (left, top, right, bottom), image in zip(corners.unbind(), integers(images), strict=True):
        width, height = right - left, bottom - top
        if not half:
            width, height = width.clamp(min=1), height.clamp(min=1)
        rows = _positions(top, height, high, ratio)
        columns = _positions(left, width, wide, ratio)
        found.append(_pooled(x[image], rows, columns, high, wide, largest))
    return torch.stack(found) if found else x.new_zeros(0, x.shape[1], high, wide)


def _positions(start: torch.Tensor, length: torch.Tensor, bins: int, ratio: int) -> torch.Tensor:
    """Where a region is read along an axis, [bins * samples]."""
    samples = ratio or max(math.ceil(float(length) / bins), 1)
    steps = (torch.arange(bins * samples) + 0.5) / samples
    return start + steps.to(length.dtype) * (length / bins)


def _pooled(
    x: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    high: int,
    wide: int,
    largest: bool,
) -> torch.Tensor:
    """One region of one image [channels, height, width], read at a grid and pooled."""
    top, bottom, low_y, inside_y = _neighbours(rows, x.shape[1])
    left, right, low_x, inside_x = _neighbours(columns, x.shape[2])
    upper, lower = x.index_select(1, top), x.index_select(1, bottom)
    share_y, share_x = low_y.unsqueeze(-1), low_x
    corners = [
        upper.index_select(2, left) * (1 - share_y) * (1 - share_x),
        upper.index_select(2, right) * (1 - share_y) * share_x,
        lower.index_select(2, left) * share_y * (1 - share_x),
        lower.index_select(2, right) * share_y * share_x,
    ]
    joined = torch.stack(corners)
    values = joined.amax(0) if largest else joined.sum(0)
    values = torch.where(inside_y.unsqueeze(-1) & inside_x, values, 0.0).to(x.dtype)
    bins = values.reshape(x.shape[0], high, -1, wide, len(columns) // wide)
    return bins.amax((2, 4)) if largest else bins.mean((2, 4))


def _neighbours(
    at: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The positions before and after, the share of the latter, and which lie on the image."""
    inside = (at >= -1.0) & (at <= size)
    held = at.clamp(0, size - 1)
    before = held.detach().floor().long()
    return before, (before + 1).clamp(max=size - 1), held - before, inside


def _deform_conv(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    offset: torch.Tensor,
    b: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    if x.dim() != 4:
        raise call.unsupported(f"an input of {x.dim()} axes; 4 are supported")
    batch, channels, *sizes = x.shape
    window = window_of(call, w.shape[2:], sizes)
    parts, taps = call.integer("offset_group", 1), math.prod(w.shape[2:])
    high, wide = offset.shape[2:]
    moved = offset.reshape(batch * parts, taps, 2, high, wide)
    coordinates = []
    for axis, count in enumerate((high, wide)):
        starts = torch.arange(count) * window.strides[axis] - window.begins[axis]
        reach = torch.arange(w.shape[2 + axis]) * window.dilations[axis]
        taps_at = (
            reach.repeat_interleave(w.shape[3]) if axis == 0 else reach.repeat(w.shape[2])
        ).reshape(-1, 1, 1)
        at = taps_at + (starts.reshape(-1, 1) if axis == 0 else starts)
        coordinates.append((2 * (moved[:, :, axis] + at) + 1) / sizes[axis] - 1)
    grid = torch.stack(coordinates[::-1], -1).reshape(batch * parts, taps * high, wide, 2)
    planes = x.reshape(batch * parts, channels // parts, *sizes)
    read = functional.grid_sample(planes, grid, "bilinear", "zeros", False)
    read = read.reshape(batch, parts, channels // parts, taps, high * wide)
    if mask is not None:
        read = read * mask.reshape(batch, parts, 1, taps, high * wide)
    groups = call.integer("group", 1)
    columns = read.reshape(batch, groups, -1, high * wide)
    y = torch.matmul(w.reshape(groups, w.shape[0] // groups, -1), columns)
    y = y.reshape(batch, w.shape[0], high, wide)
    return y if b is None else y + b.reshape(-1, 1, 1)


TABLE: Table = {
    "GridSample": _grid_sample,
    "AffineGrid": _affine_grid,
    "RoiAlign": _roi_align,
    "DeformConv": _deform_conv,
}
