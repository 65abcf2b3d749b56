"""Pools: one number for each window, or for all positions.

Source: ONNX MaxPool, AveragePool, LpPool, Global*Pool (opset 22), MaxUnpool (opset 22). A window
that reaches over the padded end (ceil_mode) never counts what lies there, as in onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.operators.windows import Window, pad_spatial, window_of
from onnxcompress.distillation.values import integers

_MAX: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_MAX_AT: dict[int, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    1: functional.max_pool1d_with_indices,
    2: functional.max_pool2d_with_indices,
    3: functional.max_pool3d_with_indices,
}
_AVERAGE: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}
_CONV: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}


def _window(call: Call, x: torch.Tensor) -> Window:
    if x.dim() - 2 not in _MAX:
        raise call.unsupported(f"an input of {x.dim()} axes; 3 to 5 are supported")
    return window_of(call, call.integers("kernel_shape"), x.shape[2:])


def _fits(window: Window) -> bool:
    """Whether torch's pools take the padding as it is: at most half a window."""
    return window.is_symmetric and all(
        pad <= length // 2 for pad, length in zip(window.begins, window.kernel, strict=True)
    )


def _max_pool(call: Call, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    rank, window = x.dim() - 2, _window(call, x)
    ceil, indexed = bool(call.integer("ceil_mode", 0)), call.outputs() > 1
    if not x.is_floating_point():
        y = _max_pool(call, x.double())
        return (y[0].to(x.dtype), y[1]) if isinstance(y, tuple) else y.to(x.dtype)
    if _fits(window) and not ceil and not indexed:
        return _MAX[rank](x, window.kernel, window.strides, window.begins, window.dilations)
    sizes = tuple(x.shape[2:])
    outputs = window.outputs(sizes, ceil)
    over = window.overhang(sizes, outputs)
    ends = [end + more for end, more in zip(window.ends, over, strict=True)]
    padded = pad_spatial(x, window.begins, ends, -math.inf)
    geometry = (window.kernel, window.strides, 0, window.dilations)
    if not indexed:
        return _MAX[rank](padded, *geometry)
    y, at = _MAX_AT[rank](padded, *geometry)
    return y, _onnx_index(at, x, padded.shape[2:], window.begins, call.integer("storage_order", 0))


def _onnx_index(
    at: torch.Tensor,
    x: torch.Tensor,
    padded: Sequence[int],
    begins: Sequence[int],
    storage_order: int,
) -> torch.Tensor:
    """Positions in a padded plane -> positions in the whole unpadded tensor."""
    sizes = x.shape[2:]
    coordinates: list[torch.Tensor] = []
    for begin, size in zip(reversed(begins), reversed(padded), strict=True):
        coordinates.insert(0, at % size - begin)
        at = at // size
    order = range(len(sizes)) if storage_order == 0 else reversed(range(len(sizes)))
    inside = torch.zeros_like(at)
    for axis in order:
        inside = inside * sizes[axis] + coordinates[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], dtype=at.dtype, device=at.device)
    return inside + planes.reshape(*x.shape[:2], *(1,) * len(sizes)) * math.prod(sizes)


def _average_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    rank, window = x.dim() - 2, _window(call, x)
    ceil = bool(call.integer("ceil_mode", 0))
    include = bool(call.integer("count_include_pad", 0))
    if _fits(window) and not ceil and set(window.dilations) == {1}:
        return _AVERAGE[rank](x, window.kernel, window.strides, window.begins, False, include)
    total = _window_sums(x, window, ceil)
    for axis, outputs in enumerate(total.shape[2:]):
        counts = _counted(window, axis, x.shape[axis + 2], outputs, include).to(x)
        total = total / counts.reshape(-1, *(1,) * (rank - axis - 1))
    return total


def _window_sums(x: torch.Tensor, window: Window, ceil: bool) -> torch.Tensor:
    rank, sizes = x.dim() - 2, x.shape[2:]
    outputs = window.outputs(sizes, ceil)
    over = window.overhang(sizes, outputs)
    padded = pad_spatial(
        x, window.begins, [end + more for end, more in zip(window.ends, over, strict=True)]
    )
    if set(window.dilations) == {1}:
        return _AVERAGE[rank](padded, window.kernel, window.strides) * math.prod(window.kernel)
    planes = padded.reshape(-1, 1, *padded.shape[2:])
    sums = _CONV[rank](
        planes, x.new_ones(1, 1, *window.kernel), None, window.strides, 0, window.dilations
    )
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _counted(window: Window, axis: int, size: int, outputs: int, include: bool) -> torch.Tensor:
    """How many positions each window counts along an axis."""
    starts = torch.arange(outputs) * window.strides[axis] - window.begins[axis]
    reads = starts[:, None] + torch.arange(window.kernel[axis]) * window.dilations[axis]
    low = -window.begins[axis] if include else 0
    high = size + (window.ends[axis] if include else 0)
    return ((reads >= low) & (reads < high)).sum(1)


def _lp_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    p = call.integer("p", 2)
    powers = _window_sums(x.abs() ** p, _window(call, x), bool(call.integer("ceil_mode", 0)))
    return _root(powers, p)


def _root(powers: torch.Tensor, p: int) -> torch.Tensor:
    """The p-th root; where it is zero its gradient is too."""
    if p == 1:
        return powers
    zero = powers == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, powers) ** (1.0 / p)).to(powers.dtype)


def _spatial(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _global_average_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    return x.mean(_spatial(x), keepdim=True) if x.dim() > 2 else x


def _global_max_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    flat = x.reshape(*x.shape[:2], -1).max(-1).values
    return flat.reshape(*x.shape[:2], *(1,) * (x.dim() - 2))


def _global_lp_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    p = call.integer("p", 2)
    return _root((x.abs() ** p).sum(_spatial(x), keepdim=True), p)


def _max_unpool(
    call: Call, x: torch.Tensor, at: torch.Tensor, shape: torch.Tensor | None = None
) -> torch.Tensor:
    sizes = x.shape[2:]
    window = window_of(call, call.integers("kernel_shape"), sizes)
    inferred = [
        *x.shape[:2],
        *(
            (size - 1) * window.strides[axis]
            - window.begins[axis]
            - window.ends[axis]
            + window.kernel[axis]
            for axis, size in enumerate(sizes)
        ),
    ]
    wanted = inferred if shape is None else list(integers(shape))
    flat = x.new_zeros(math.prod(wanted)).index_put((at.reshape(-1),), x.reshape(-1))
    return flat.reshape(wanted)


TABLE: Table = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "GlobalLpPool": _global_lp_pool,
    "MaxUnpool": _max_unpool,
}
