"""The int8 grid of a weight in an integer kernel: one rule for all passes that choose or use it."""

from __future__ import annotations

import numpy as np

from onnxcompress.ir.model import Node
from onnxcompress.ir.ops import output_channel_axis
from onnxcompress.quantization.granularity import Granularity
from onnxcompress.quantization.qparams import QParams, symmetric_qparams
from onnxcompress.quantization.rounding import Bounds
from onnxcompress.quantization.saturation import pair_bounds, pair_safe_qparams
from onnxcompress.target import Int8Traits

_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})


def weight_grid(
    node: Node, values: np.ndarray, granularity: Granularity, traits: Int8Traits
) -> QParams:
    """int8 around zero, with scales at which no sum of two products saturates on the target.

    Args:
        node: a Conv, Gemm or MatMul.
        values: its weight, float.
        granularity: what shares a scale: nothing, or output channels.
        traits: of the target.
    """
    if not traits.pairs_saturate or not multiplies_in_pairs(node, values.shape):
        return symmetric_qparams(values, granularity)
    return pair_safe_qparams(values, granularity, in_kernel_order(node, values))


def grid_bounds(node: Node, wanted: np.ndarray, traits: Int8Traits) -> Bounds:
    """How far weights may move for `weight_grid` to choose the same scales again.

    Args:
        node: a Conv, Gemm or MatMul.
        wanted: its weight in units of the scale.
        traits: of the target.
    """
    if traits.pairs_saturate and multiplies_in_pairs(node, wanted.shape):
        rows = pair_bounds(in_kernel_order(node, wanted))
        arrays = (rows.low, rows.high, rows.free)
        return Bounds(*(_from_kernel_order(node, each, wanted.shape) for each in arrays))
    nearest = np.abs(np.rint(wanted))
    most = nearest.max(initial=0) - 1
    return Bounds(
        np.broadcast_to(-most, wanted.shape), np.broadcast_to(most, wanted.shape), nearest <= most
    )


def multiplies_in_pairs(node: Node, shape: tuple[int, ...]) -> bool:
    """Whether onnxruntime's x86 kernel adds two products at a time; the depthwise one does not."""
    group = node.int_attr("group", 1)
    return not (node.op in _CONVOLUTIONS and group > 1 and shape[0] == group and shape[1] == 1)


def in_kernel_order(node: Node, values: np.ndarray) -> np.ndarray:
    """A weight as [output channels, features], features as onnxruntime's kernels read them.

    Convolutions run channels-last: the input channels of a kernel position are neighbours.
    """
    if node.op in _CONVOLUTIONS:
        return np.moveaxis(values, 1, -1).reshape(values.shape[0], -1)
    return values if output_channel_axis(node, values.ndim) == 0 else values.T


def _from_kernel_order(node: Node, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if node.op == "Conv":
        return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    return rows if output_channel_axis(node, len(shape)) == 0 else rows.T
