"""int8 graphs with fixed activation ranges, placed where onnxruntime fuses them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.kernels import ROLES, WEIGHTED, Role
from onnxcompress.qdq.placement import Placement, data_inputs, place
from onnxcompress.qdq.rewrite import Rewriter, symmetric_weights
from onnxcompress.quantization.observers import Observer
from onnxcompress.quantization.qparams import QParams, activation_qparams
from onnxcompress.target import INT8_TRAITS, Target


class ActivationType(Enum):
    """The integers that activations become, by the names recipes use."""

    AUTO = "auto"
    UINT8 = "uint8"
    INT8 = "int8"

    def dtype(self, target: Target) -> np.dtype:
        """The numpy type; AUTO is what the target's kernels fuse."""
        signed = INT8_TRAITS[target].signed_activations
        return np.dtype(
            np.int8 if self is self.INT8 or (self is self.AUTO and signed) else np.uint8
        )


@dataclass(frozen=True, kw_only=True)
class QuantizeStatic(Pass):
    """Conv(x, W, b)  ->  DQ(Q(Conv(DQ(Q(x)), DQ(W_int8), DQ(b_int32)))).

    For convolutional networks. Weights are int8 with one scale for each output channel, biases
    int32, activations 8 bits in the range seen in the calibration data. Q and DQ stand where
    onnxruntime fuses them into integer kernels, and nowhere else: products of matrices give float
    outputs, residual additions and pooling join only between integer nodes, Relu and Clip vanish
    into the range after them.

    Attributes:
        observer: how a range is chosen from what was seen.
        activations: the integer type of activations.
        per_channel: one scale for each output channel of a weight, or one for all.
        float_prefix: this many weighted nodes at the start stay float: a convolution of three
            channels, or a depthwise one of a large picture, is faster so.
    """

    name: ClassVar[str] = "quantize-static"
    opset: ClassVar[int] = 13

    observer: Observer = Observer.MIN_MAX
    activations: ActivationType = ActivationType.AUTO
    per_channel: bool = True
    float_prefix: int = 0

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""

        first = set(_weighted_nodes(model)[: self.float_prefix])

        def allowed(node: Node) -> bool:
            reason = f"float_prefix={self.float_prefix}" if node in first else EXCLUDED
            if node in first or self.at(node) is None:
                edit.skip(node, reason)
                return False
            return True

        placement = place(model, allowed, edit.skip)
        if not placement.nodes:
            return
        rewriter = Rewriter(
            edit=edit,
            placement=placement,
            qparams=self._qparams(model, placement, context),
        )
        rule = symmetric_weights(INT8_TRAITS[context.target].weight_bits)
        rewriter.quantize_tensors()
        for node, role in placement.nodes.items():
            if role is Role.MOVE:
                rewriter.move_integers(node)
        for node, role in placement.nodes.items():
            if role in WEIGHTED:
                options = self.at(node)
                assert options is not None
                rewriter.quantize_weight(node, rule, per_channel=options.per_channel)

    def _qparams(
        self, model: Model, placement: Placement, context: Context
    ) -> Mapping[Tensor, QParams]:
        """Ranges for every tensor, each by the observer that its first reader asks for."""
        options = dict.fromkeys(placement.tensors, self)
        for node in reversed(placement.nodes):
            for tensor in data_inputs(node):
                if tensor in options:
                    options[tensor] = self.at(node) or self
        groups: dict[Observer, list[Tensor]] = defaultdict(list)
        for tensor, chosen in options.items():
            groups[chosen.observer].append(tensor)
        context.ranges(model, [tensor.name for tensor in options], self.observer)  # in one pass
        qparams: dict[Tensor, QParams] = {}
        for observer, tensors in groups.items():
            ranges = context.ranges(model, [tensor.name for tensor in tensors], observer)
            for tensor in tensors:
                dtype = options[tensor].activations.dtype(context.target)
                qparams[tensor] = activation_qparams(ranges[tensor.name], dtype)
        return qparams


def _weighted_nodes(model: Model) -> list[Node]:
    """The nodes of the main graph that multiply by a weight, in execution order."""
    weighted = [node for node in model.graph.nodes if ROLES.get(node.op) in WEIGHTED]
    return [node for node in weighted if node.domain in STANDARD]
