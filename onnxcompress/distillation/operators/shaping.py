"""The same elements in another shape, order or number.

Source: ONNX Reshape, Transpose, Slice, Pad, Concat, Split and their kin (opsets 7 to 25).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.values import integers, normal_axes


def _identity(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    return x


def _shape(call: Call, x: torch.Tensor) -> torch.Tensor:
    end = call.integer("end", x.dim())
    return torch.tensor(x.shape[call.integer("start", 0) : end], dtype=torch.int64)


def _size(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    return torch.tensor(x.numel(), dtype=torch.int64)


def _reshape(call: Call, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    sizes = integers(shape)
    if not call.integer("allowzero", 0):
        sizes = tuple(size or x.shape[at] for at, size in enumerate(sizes))
    return x.reshape(sizes)


def _flatten(call: Call, x: torch.Tensor) -> torch.Tensor:
    axis = call.integer("axis", 1)
    axis += x.dim() if axis < 0 else 0
    return x.reshape(x.shape[:axis].numel(), x.shape[axis:].numel())


def _squeeze(call: Call, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
    axes = integers(given) if given is not None else call.integers("axes")
    if not axes:
        return torch.squeeze(x)
    axes = normal_axes(axes, x.dim())
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in axes])


def _unsqueeze(call: Call, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
    axes = integers(given) if given is not None else call.integers("axes")
    for axis in sorted(normal_axes(axes, x.dim() + len(axes))):
        x = x.unsqueeze(axis)
    return x


def _transpose(call: Call, x: torch.Tensor) -> torch.Tensor:
    return x.permute(call.integers("perm", range(x.dim())[::-1]))


def _expand(call: Call, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    del call
    sizes = integers(shape)
    rank = max(x.dim(), len(sizes))
    present = (*(1,) * (rank - x.dim()), *x.shape)
    wanted = (*(1,) * (rank - len(sizes)), *sizes)
    return x.expand([a if b == 1 else b for a, b in zip(present, wanted, strict=True)])


def _tile(call: Call, x: torch.Tensor, repeats: torch.Tensor) -> torch.Tensor:
    del call
    return x.repeat(integers(repeats))


def _concat(call: Call, *tensors: torch.Tensor) -> torch.Tensor:
    return torch.cat(tensors, call.integer("axis", 0))


def split_sizes(total: int, parts: int) -> list[int]:
    """How a length falls into parts that are equal but for a smaller last one."""
    size = -(-total // parts)
    edges = [min(at * size, total) for at in range(parts + 1)]
    return [after - before for before, after in pairwise(edges)]


def _split(
    call: Call, x: torch.Tensor, given: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    axis = call.integer("axis", 0)
    sizes = integers(given) if given is not None else call.integers("split")
    parts = call.integer("num_outputs", len(call.node.outputs))
    return torch.split(x, list(sizes) or split_sizes(x.shape[axis], parts), axis)


def _slice(
    call: Call,
    x: torch.Tensor,
    begin: torch.Tensor | None = None,
    end: torch.Tensor | None = None,
    along: torch.Tensor | None = None,
    by: torch.Tensor | None = None,
) -> torch.Tensor:
    starts = call.integers("starts") if begin is None else integers(begin)
    ends = call.integers("ends") if end is None else integers(end)
    axes = call.integers("axes", range(len(starts))) if along is None else integers(along)
    steps = (1,) * len(starts) if by is None else integers(by)
    for axis, start, stop, step in zip(
        normal_axes(axes, x.dim()), starts, ends, steps, strict=True
    ):
        size = x.shape[axis]
        start, stop = start + size * (start < 0), stop + size * (stop < 0)
        if step > 0:
            start, stop = min(max(start, 0), size), min(max(stop, 0), size)
            x = x[(*(slice(None),) * axis, slice(start, stop, step))]
        else:
            start, stop = min(max(start, 0), size - 1), min(max(stop, -1), size - 1)
            at = torch.arange(start, min(stop, start), step, dtype=torch.int64)
            x = x.index_select(axis, at)
    return x


def _pad(
    call: Call,
    x: torch.Tensor,
    pads_tensor: torch.Tensor | None = None,
    value_tensor: torch.Tensor | None = None,
    along: torch.Tensor | None = None,
) -> torch.Tensor:
    pads = call.integers("pads") if pads_tensor is None else integers(pads_tensor)
    axes = tuple(range(x.dim())) if along is None else normal_axes(integers(along), x.dim())
    before, after = [0] * x.dim(), [0] * x.dim()
    for at, axis in enumerate(axes):
        before[axis], after[axis] = pads[at], pads[at + len(axes)]
    mode = call.text("mode", "constant")
    if mode == "constant":
        value = call.real("value", 0.0) if value_tensor is None else value_tensor.item()
        sides = [side for axis in range(x.dim())[::-1] for side in (before[axis], after[axis])]
        return functional.pad(x, sides, value=value)
    for axis, (first, last) in enumerate(zip(before, after, strict=True)):
        if first or last:
            x = _pad_axis(call, x, axis, first, last, mode)
    return x


def _pad_axis(
    call: Call, x: torch.Tensor, axis: int, before: int, after: int, mode: str
) -> torch.Tensor:
    """Pads with the tensor's own elements; negative pads crop first."""
    size = x.shape[axis]
    x = x.narrow(axis, max(-before, 0), size + min(before, 0) + min(after, 0))
    size = x.shape[axis]
    at = torch.arange(-max(before, 0), size + max(after, 0))
    if mode == "edge":
        at = at.clamp(0, size - 1)
    elif mode == "wrap":
        at = at % size
    elif mode == "reflect":
        at = size - 1 - (at % max(2 * size - 2, 1) - (size - 1)).abs()
    else:
        raise call.unsupported(f"mode {mode!r} is not known")
    return x.index_select(axis, at)


def _depth_to_space(call: Call, x: torch.Tensor) -> torch.Tensor:
    block = call.integer("blocksize", 1)
    batch, channels, height, width = x.shape
    rest = channels // block**2
    if call.text("mode", "DCR") == "DCR":
        blocks = x.reshape(batch, block, block, rest, height, width)
        moved = blocks.permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(batch, rest, block, block, height, width)
        moved = blocks.permute(0, 1, 4, 2, 5, 3)
    return moved.reshape(batch, rest, height * block, width * block)


def _space_to_depth(call: Call, x: torch.Tensor) -> torch.Tensor:
    block = call.integer("blocksize", 1)
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // block, block, width // block, block)
    order = (0, 3, 5, 1, 2, 4) if call.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.permute(order).reshape(
        batch, channels * block**2, height // block, width // block
    )


def _trilu(call: Call, x: torch.Tensor, k: torch.Tensor | None = None) -> torch.Tensor:
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if call.integer("upper", 1) else torch.tril(x, diagonal)


def _reverse_sequence(call: Call, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    time, batch = call.integer("time_axis", 0), call.integer("batch_axis", 1)
    steps = torch.arange(x.shape[time]).unsqueeze(1)
    at = torch.where(steps < lengths, lengths - 1 - steps, steps)
    sizes = [1] * x.dim()
    sizes[time], sizes[batch] = x.shape[time], x.shape[batch]
    at = at if time < batch else at.T
    return torch.gather(x, time, at.reshape(sizes).expand(x.shape))


TABLE: Table = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
