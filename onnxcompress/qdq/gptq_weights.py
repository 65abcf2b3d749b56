"""The integers of stored weights, chosen by GPTQ from what the weights are multiplied with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import Node
from onnxcompress.qdq.matrices import from_matrices, to_matrices
from onnxcompress.quantization.compensation import Compensation, SingularMomentsError
from onnxcompress.quantization.gptq import gptq_levels
from onnxcompress.quantization.granularity import spread
from onnxcompress.quantization.qparams import QParams, dequantize
from onnxcompress.quantization.rounding import Bounds, Moments, round_to_grid

_OUTPUTS_AT_ONCE = 1024
"""Outputs swept together, to hold little of a large weight in float64."""


@dataclass(frozen=True)
class GPTQSettings:
    """How integers are chosen.

    Attributes:
        damping: share of the mean square of the inputs added to each.
        by_importance: inputs of large mean square are rounded first.
        sweeps: most rounds of `round_to_grid` after GPTQ.
    """

    damping: float
    by_importance: bool
    sweeps: int


@dataclass(frozen=True)
class RoundedWeight:
    """A weight as integers.

    Attributes:
        integers: in the weight's shape.
        qparams: what they stand for.
        shifts: for each reader what its bias takes up, float64 [groups, outputs]; None if it has no
            bias that can.
    """

    integers: np.ndarray
    qparams: QParams
    shifts: Mapping[Node, np.ndarray | None]


def rounded_weight(
    values: np.ndarray,
    readers: Mapping[Node, Moments],
    qparams_for: Callable[[np.ndarray], QParams],
    settings: GPTQSettings,
) -> RoundedWeight | str:
    """The integers with which the outputs of all readers change least, or why there are none.

    Args:
        values: finite float weight.
        readers: Conv, Gemm or MatMul that use the weight alike, and what their inputs are like.
        qparams_for: scales for the weight, given what the error of each element costs.
        settings: how integers are chosen.
    """
    node = next(iter(readers))
    moments = _objective(readers)
    try:
        compensations = [
            Compensation.of(each, damping=settings.damping, by_importance=settings.by_importance)
            for each in moments
        ]
    except SingularMomentsError as fault:
        return f"{fault}: more or other calibration data is needed"
    shape = values.shape
    wanted = to_matrices(node, values)
    costs = np.stack([each.costs for each in compensations])[:, None, :]
    qparams = qparams_for(from_matrices(node, np.broadcast_to(costs, wanted.shape), shape))
    scale, zero_point = (
        to_matrices(node, np.broadcast_to(spread(each, shape, qparams.granularity), shape))
        for each in (qparams.scale, qparams.zero_point.astype(np.float32))
    )
    low, high = qparams.limits
    levels = gptq_levels(wanted, scale, zero_point, compensations, (low, high))
    for first in range(0, wanted.shape[1] if settings.sweeps else 0, _OUTPUTS_AT_ONCE):
        part = (slice(None), slice(first, first + _OUTPUTS_AT_ONCE))
        zeros = zero_point[part]
        bounds = Bounds(low - zeros, high - zeros, np.ones(zeros.shape, np.bool_))
        start = levels[part] - zeros
        levels[part] = zeros + round_to_grid(
            wanted[part], scale[part], moments, bounds, settings.sweeps, start=start
        )
    integers = from_matrices(node, levels, shape).astype(qparams.zero_point.dtype)
    lost = to_matrices(node, values - dequantize(integers, qparams))
    shifts = {
        reader: np.einsum("gof,gf->go", lost, seen.mean) if _has_plain_bias(reader) else None
        for reader, seen in readers.items()
    }
    return RoundedWeight(integers, qparams, shifts)


def _objective(readers: Mapping[Node, Moments]) -> np.ndarray:
    """float64 [groups, features, features]: the moments that all readers together care for.

    A bias that can take up the mean error leaves the spread around the mean.
    """
    count = max(sum(seen.count for seen in readers.values()), 1)
    parts = [
        (seen.covariance if _has_plain_bias(node) else seen.second) * (seen.count / count)
        for node, seen in readers.items()
    ]
    return np.asarray(np.sum(parts, axis=0))


def _has_plain_bias(node: Node) -> bool:
    """Whether a node adds a stored vector, as it is, to its products."""
    bias, weight = query.constant(node, 2), query.constant(node, 1)
    factors = (node.float_attr("alpha", 1.0), node.float_attr("beta", 1.0))
    if bias is None or weight is None or bias.dtype != np.float32 or factors != (1.0, 1.0):
        return False
    groups, outputs, _ = to_matrices(node, weight.values).shape
    channels = groups * outputs
    return bias.shape in ((), (1,), (channels,), (1, 1), (1, channels))
