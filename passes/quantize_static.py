"""int8 graphs with fixed activation ranges, placed where onnxruntime fuses them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import ClassVar

import numpy as np

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.finite import place_finite
from onnxcompress.qdq.kernels import NO_16_BIT_KERNEL, NO_16_BITS, ROLES, WEIGHTED
from onnxcompress.qdq.placement import Placement
from onnxcompress.qdq.range_choice import least_output_error
from onnxcompress.qdq.rewrite import Rewriter, WeightRule
from onnxcompress.qdq.ties import Ties
from onnxcompress.qdq.weight_grid import weight_grid
from onnxcompress.quantization.observers import Observer
from onnxcompress.quantization.qparams import QParams, activation_qparams
from onnxcompress.target import INT8_TRAITS, Target


class ActivationType(Enum):
    """The integers that activations become, by the names recipes use."""

    AUTO = "auto"
    UINT8 = "uint8"
    INT8 = "int8"
    UINT16 = "uint16"
    INT16 = "int16"

    def dtype(self, target: Target) -> np.dtype:
        """The numpy type; AUTO is what the target's kernels fuse."""
        if self is self.AUTO:
            return np.dtype(np.int8 if INT8_TRAITS[target].signed_activations else np.uint8)
        dtype: np.dtype = np.dtype(self.value)
        return dtype

    @property
    def is_wide(self) -> bool:
        """Whether it has 16 bits."""
        return self in (self.UINT16, self.INT16)


@dataclass(frozen=True, kw_only=True)
class QuantizeStatic(Pass):
    """Conv(x, W, b)  ->  DQ(Q(Conv(DQ(Q(x)), DQ(W_int8), DQ(b_int32)))).

    For convolutional networks. Weights are int8 with one scale for each output channel, biases
    int32, activations 8 bits in the range seen in the calibration data. Q and DQ stand where
    onnxruntime fuses them into integer kernels, and nowhere else: products of matrices give float
    outputs, residual additions and pooling join only between integer nodes, Relu and Clip vanish
    into the range after them. Activations of 16 bits (opset 21) keep more accuracy, but onnxruntime
    computes on them in float.

    Attributes:
        observer: how a range is chosen from what was seen.
        activations: the integer type of activations.
        per_channel: one scale for each output channel of a weight, or one for all.
        float_prefix: this many weighted nodes at the start stay float: a convolution of three
            channels, or a depthwise one of a large picture, is faster so.
    """

    name: ClassVar[str] = "quantize-static"
    packs: ClassVar[bool] = True
    opset: ClassVar[int] = 13

    observer: Observer = Observer.MIN_MAX
    activations: ActivationType = ActivationType.AUTO
    per_channel: bool = True
    float_prefix: int = 0

    def required_opset(self) -> int:
        """See `Pass.required_opset`."""
        return 21 if self.activations.is_wide else self.opset

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""

        first = set(_weighted_nodes(model)[: self.float_prefix])

        def unfit(node: Node) -> str | None:
            return f"float_prefix={self.float_prefix}" if node in first else self._unfit(node)

        def observed(names: Sequence[str]) -> Collection[str]:
            return context.ranges(model, names, self.observer)

        placement = place_finite(model, unfit, edit.skip, observed)
        if not placement.nodes:
            return
        traits = INT8_TRAITS[context.target]

        def rule(node: Node) -> WeightRule:
            options = self.at(node)
            assert options is not None
            return WeightRule(partial(weight_grid, node, traits=traits), options.per_channel)

        qparams = self._qparams(model, placement, context)
        ties = Ties(model)
        rewriter = Rewriter(edit=edit, placement=placement, qparams=qparams)
        rewriter.rewrite(rule)
        for node, stored in rewriter.weights.items():
            ties.note(edit, node, *stored)
        ties.read_all_stored(edit, unfit, edit.skip)

    def _unfit(self, node: Node) -> str | None:
        """Why a node stays float by its options; None if it need not."""
        options = self.at(node)
        if options is None:
            return EXCLUDED
        wide = options.activations.is_wide
        return NO_16_BITS if wide and node.op in NO_16_BIT_KERNEL else None

    def _qparams(
        self, model: Model, placement: Placement, context: Context
    ) -> Mapping[Tensor, QParams]:
        """Ranges for every tensor, each by the observer that its first reader asks for."""
        options = placement.for_tensors(self.at, self)
        groups: dict[tuple[Observer, np.dtype], list[Tensor]] = defaultdict(list)
        for tensor, chosen in options.items():
            groups[chosen.observer, chosen.activations.dtype(context.target)].append(tensor)
        qparams: dict[Tensor, QParams] = {}
        for (observer, dtype), tensors in groups.items():
            ranges = context.ranges(model, [tensor.name for tensor in tensors], observer)
            if observer is Observer.OUTPUT_ERROR:
                readers = {tensor: placement.weighted_readers(tensor) for tensor in tensors}
                ranges = least_output_error(model, readers, dtype, context)
            for tensor in tensors:
                qparams[tensor] = activation_qparams(ranges[tensor.name], dtype)
        return qparams


def _weighted_nodes(model: Model) -> list[Node]:
    """The nodes of the main graph that multiply by a weight, in execution order."""
    weighted = [node for node in model.graph.nodes if ROLES.get(node.op) in WEIGHTED]
    return [node for node in weighted if node.domain in STANDARD]
