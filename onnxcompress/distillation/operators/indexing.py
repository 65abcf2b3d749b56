"""Elements picked or written by position, or by what they are.

Source: ONNX Gather*, Scatter*, TensorScatter, Compress, NonZero, Unique (opsets 7 to 25).
"""

from __future__ import annotations

import torch

from onnxcompress.distillation.call import Call, Table

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
"""How torch calls what ONNX calls."""


def _from_front(indices: torch.Tensor, size: int) -> torch.Tensor:
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


def _gather(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = call.integer("axis", 0) % x.dim()
    if indices.dim() == 0:
        return x.select(axis, int(indices))
    at = _from_front(indices, x.shape[axis])
    shape = (*x.shape[:axis], *at.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, at.reshape(-1)).reshape(shape)


def _gather_elements(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = call.integer("axis", 0)
    return torch.gather(x, axis, _from_front(indices, x.shape[axis]))


def _gather_nd(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    shared = call.integer("batch_dims", 0)
    depth = indices.shape[-1]
    batches = x.shape[:shared].numel()
    rest = x.reshape(batches, *x.shape[shared:])
    at = indices.reshape(batches, indices.shape[shared:-1].numel(), depth)
    position = (
        torch.arange(batches).unsqueeze(1),
        *(_from_front(at[..., each], rest.shape[each + 1]) for each in range(depth)),
    )
    return rest[position].reshape(*indices.shape[:-1], *x.shape[shared + depth :])


def _scatter_elements(
    call: Call, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor
) -> torch.Tensor:
    axis = call.integer("axis", 0)
    return _written(call, x, axis, _from_front(indices, x.shape[axis]), updates)


def _scatter_nd(
    call: Call, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor
) -> torch.Tensor:
    depth = indices.shape[-1]
    at = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for each in range(depth):
        at = at * x.shape[each] + _from_front(indices[..., each], x.shape[each])
    rows, length = x.shape[:depth].numel(), x.shape[depth:].numel()
    at = at.reshape(-1, 1).expand(-1, length)
    flat = _written(call, x.reshape(rows, length), 0, at, updates.reshape(-1, length))
    return flat.reshape(x.shape)


def _written(
    call: Call, x: torch.Tensor, axis: int, at: torch.Tensor, updates: torch.Tensor
) -> torch.Tensor:
    reduction = call.text("reduction", "none")
    if reduction == "none":
        return torch.scatter(x, axis, at, updates)
    if reduction not in _REDUCTIONS:
        raise call.unsupported(f"reduction {reduction!r} is not known")
    return torch.scatter_reduce(x, axis, at, updates, _REDUCTIONS[reduction])


def _tensor_scatter(
    call: Call,
    cache: torch.Tensor,
    update: torch.Tensor,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    axis = call.integer("axis", -2) % cache.dim()
    begin = torch.zeros(cache.shape[0], dtype=torch.int64) if positions is None else positions
    at = begin.unsqueeze(1) + torch.arange(update.shape[axis])
    if call.text("mode", "linear") == "circular":
        at = at % cache.shape[axis]
    sizes = [1] * cache.dim()
    sizes[0], sizes[axis] = at.shape
    return torch.scatter(cache, axis, at.reshape(sizes).expand(update.shape), update)


def _compress(call: Call, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    at = torch.nonzero(condition).reshape(-1)
    if not call.has("axis"):
        return x.reshape(-1).index_select(0, at)
    return x.index_select(call.integer("axis", 0), at)


def _non_zero(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    return torch.nonzero(x).T


def _unique(call: Call, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    axis = call.integer("axis", 0) if call.has("axis") else None
    x = x.reshape(-1) if axis is None else x
    along = 0 if axis is None else axis
    _, inverse, counts = torch.unique(
        x, sorted=True, return_inverse=True, return_counts=True, dim=along
    )
    places = torch.arange(len(inverse))
    first = torch.full(counts.shape, len(inverse)).scatter_reduce(0, inverse, places, "amin")
    if not call.integer("sorted", 1):
        order = torch.argsort(first)
        first, counts, inverse = first[order], counts[order], torch.argsort(order)[inverse]
    return x.index_select(along, first), first, inverse, counts


TABLE: Table = {
    "Compress": _compress,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "Unique": _unique,
}
