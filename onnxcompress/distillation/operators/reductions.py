"""Over axes: sums, extremes, norms, positions, running sums.

Source: ONNX Reduce*, ArgMax, ArgMin, CumSum, CumProd, TopK (opsets 7 to 25).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from onnxcompress.distillation.call import Call, Operator, Table
from onnxcompress.distillation.operators.unsigned import computed_in_int64, table_in_int64
from onnxcompress.distillation.values import integers, normal_axes

Reduction = Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor]
"""Tensor, axes counted from the front (one at least), whether to keep them."""


def _axes(call: Call, rank: int, given: torch.Tensor | None) -> tuple[int, ...]:
    axes = integers(given) if given is not None else call.integers("axes")
    if axes:
        return normal_axes(axes, rank)
    return () if call.integer("noop_with_empty_axes", 0) else tuple(range(rank))


def _reduce(
    reduction: Reduction, alone: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
) -> Operator:
    """An operator that reduces axes.

    Args:
        reduction: how.
        alone: what becomes of an element that is reduced with no other.
    """

    def operator(call: Call, x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        axes = _axes(call, x.dim(), given)
        if not axes:
            return alone(x)
        return reduction(x, axes, bool(call.integer("keepdims", 1)))

    return operator


def _sum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return torch.sum(x, axes, keepdim=keep, dtype=x.dtype)


def _mean(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keepdim=keep)
    count = max(torch.Size(x.shape[axis] for axis in axes).numel(), 1)
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _product(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keep, dtype=x.dtype)
    return x


def _limit(dtype: torch.dtype, sign: int) -> float | int | bool:
    """The number that every other is above (sign -1) or below (sign 1)."""
    if dtype == torch.bool:
        return sign > 0
    if dtype.is_floating_point:
        return sign * float("inf")
    return torch.iinfo(dtype).min if sign < 0 else torch.iinfo(dtype).max


def _extreme(
    function: Callable[[torch.Tensor, tuple[int, ...], bool], torch.Tensor], empty: int
) -> Reduction:
    def reduction(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
        if all(x.shape[axis] for axis in axes):
            return function(x, axes, keep)
        shape = torch.sum(x, axes, keepdim=keep).shape
        return torch.full(shape, _limit(x.dtype, empty), dtype=x.dtype)

    return reduction


def _norm(order: int) -> Reduction:
    """Its gradient at zero is zero, where that of a square root is not a number."""

    def reduction(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
        real = x if x.is_floating_point() else x.double()
        norm: torch.Tensor = torch.linalg.vector_norm(real, order, axes, keep)
        return norm.to(x.dtype)

    return reduction


def _log_sum(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return _log(_sum(x, axes, keep))


def _log(x: torch.Tensor) -> torch.Tensor:
    return torch.log(x) if x.is_floating_point() else torch.log(x.double()).to(x.dtype)


def _log_sum_exp(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    if x.is_floating_point():
        return torch.logsumexp(x, axes, keepdim=keep)
    return torch.logsumexp(x.double(), axes, keepdim=keep).to(x.dtype)


def _sum_square(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> torch.Tensor:
    return _sum(x * x, axes, keep)


def _position(function: Callable[[torch.Tensor, int, bool], torch.Tensor]) -> Operator:
    def operator(call: Call, x: torch.Tensor) -> torch.Tensor:
        axis, keep = call.integer("axis", 0), bool(call.integer("keepdims", 1))
        if not call.integer("select_last_index", 0):
            return function(x, axis, keep)
        return x.shape[axis] - 1 - function(torch.flip(x, (axis,)), axis, keep)

    return operator


def _running(function: Callable[[torch.Tensor, int], torch.Tensor], start: int) -> Operator:
    """A running sum or product; `exclusive` begins with `start` and leaves the last one out."""

    def operator(call: Call, x: torch.Tensor, axis_tensor: torch.Tensor) -> torch.Tensor:
        axis = int(axis_tensor) % x.dim()
        backward = bool(call.integer("reverse", 0))
        x = torch.flip(x, (axis,)) if backward else x
        if call.integer("exclusive", 0) and x.shape[axis]:
            first = torch.full_like(x.narrow(axis, 0, 1), start)
            x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        found = function(x, axis).to(x.dtype)
        return torch.flip(found, (axis,)) if backward else found

    return operator


def _top_k(
    call: Call, x: torch.Tensor, count: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    k = call.integer("k", 0) if count is None else int(count)
    axis = call.integer("axis", -1)
    largest = bool(call.integer("largest", 1))
    # Of equal values the first wins, which torch.topk does not promise.
    values, at = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), at.narrow(axis, 0, k)


_REDUCED: Table = table_in_int64(
    {
        "CumProd": _running(lambda x, axis: torch.cumprod(x, axis), 1),
        "CumSum": _running(lambda x, axis: torch.cumsum(x, axis), 0),
        "ReduceL1": _reduce(_norm(1), torch.abs),
        "ReduceL2": _reduce(_norm(2), torch.abs),
        "ReduceLogSum": _reduce(_log_sum, _log),
        "ReduceLogSumExp": _reduce(_log_sum_exp),
        "ReduceMax": _reduce(_extreme(lambda x, axes, keep: torch.amax(x, axes, keep), -1)),
        "ReduceMean": _reduce(_mean),
        "ReduceMin": _reduce(_extreme(lambda x, axes, keep: torch.amin(x, axes, keep), 1)),
        "ReduceProd": _reduce(_product),
        "ReduceSum": _reduce(_sum),
        "ReduceSumSquare": _reduce(_sum_square, torch.square),
    }
)

TABLE: Table = {
    "ArgMax": computed_in_int64(_position(torch.argmax), values=0),
    "ArgMin": computed_in_int64(_position(torch.argmin), values=0),
    "TopK": computed_in_int64(_top_k, values=1),
    **_REDUCED,
}
