"""Turning a placement into Q/DQ nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Node, Tensor, Variable
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.qdq.insert import dequantized, quantized, stored_dequantized
from onnxcompress.qdq.kernels import WEIGHTED, Role
from onnxcompress.qdq.placement import Placement, data_inputs
from onnxcompress.quantization.granularity import (
    PER_TENSOR,
    Granularity,
    PerChannel,
    reduce_max_abs,
)
from onnxcompress.quantization.qparams import MIN_SCALE, QParams, dequantize

_BIAS_LIMIT = 1 << 30
"""Largest bias in units of its scale: half of int32, so that the sum it joins has room too."""


@dataclass(frozen=True)
class WeightRule:
    """How the weight of a node becomes integers.

    Attributes:
        qparams: for the weight's values.
        per_channel: one scale for each output channel, or one for all.
        allowed: scales that had to grow for the bias' sake, brought to ones that are allowed and
            not smaller.
    """

    qparams: Callable[[np.ndarray, Granularity], QParams]
    per_channel: bool = False
    allowed: Callable[[np.ndarray], np.ndarray] = np.asarray


class Rewriter:
    """Writes the Q/DQ nodes of one placement.

    Args:
        edit: records the changes.
        placement: what to quantize.
        qparams: for each tensor of the placement.
    """

    def __init__(self, *, edit: Editor, placement: Placement, qparams: Mapping[Tensor, QParams]):
        self._edit = edit
        self._placement = placement
        self._qparams = dict(qparams)
        self._integers: dict[Tensor, Variable] = {}
        self.weights: dict[Node, tuple[np.ndarray, QParams]] = {}
        """By node, its weight as it was, and how it is stored."""
        # Redirecting changes what nodes read; ranges belong to what they read before.
        self._data = {node: data_inputs(node) for node in placement.nodes}

    def rewrite(self, rule: Callable[[Node], WeightRule]) -> None:
        """Writes all of them.

        Args:
            rule: for the weight of each weighted node.
        """
        self._quantize_tensors()
        for node, role in self._placement.nodes.items():
            if role is Role.MOVE:
                self._move_integers(node)
        for node, role in self._placement.nodes.items():
            if role in WEIGHTED:
                self._quantize_weight(node, rule(node))

    def _quantize_tensors(self) -> None:
        """Adds Q and DQ to each tensor of the placement; its readers read the DQ.

        What an integer kernel writes has no float form left, so float readers and graph outputs
        read the DQ too. What a float kernel writes they go on reading as it is, unrounded.
        """
        readers: dict[Tensor, list[Node]] = defaultdict(list)
        for node, data in self._data.items():
            for tensor in dict.fromkeys(data):
                readers[tensor].append(node)
        for tensor in self._placement.tensors:
            qparams = self._qparams[tensor]
            source = tensor
            activation = self._placement.vanishing.get(tensor)
            if activation is not None and _saturates_like(activation, qparams):
                source = activation.inputs[0]
            near = query.producer(tensor) or readers[tensor][0]
            integers = quantized(self._edit, source, qparams, near)
            real = dequantized(self._edit, integers, qparams, near, f"{tensor.name}_dequantized")
            assert isinstance(tensor, Variable)
            real.shape = tensor.shape
            if tensor in self._placement.results:
                quantizer = integers.inputs[0]
                before = query.producer(quantizer.inputs[0])  # a Clip to the word, if there is one
                keep = [quantizer] if before is None else [quantizer, before]
                self._edit.redirect(tensor, real, keep=keep)
            else:
                for node in readers[tensor]:
                    self._read(node, tensor, real)
            self._integers[tensor] = integers

    def _read(self, node: Node, old: Tensor, new: Tensor) -> None:
        for index, tensor in enumerate(list(node.inputs)):
            if tensor is old:
                self._edit.set_input(node, index, new, f"reads {old.name} through 8 bits")

    def _move_integers(self, node: Node) -> None:
        """Lets a node that only moves values read integers and dequantizes what it writes."""
        source, output = self._data[node][0], node.outputs[0]
        qparams = self._qparams[source]
        self._edit.set_input(node, 0, self._integers[source], "moves integers")
        if node.op == "Pad" and node.text_attr("mode", "constant") == "constant":
            zero = self._edit.shared(f"{node.name}_value", qparams.zero_point)
            self._edit.set_input(node, 2, zero, "pads with the zero point")
        shape = output.shape
        output.dtype, output.envelope = qparams.zero_point.dtype, None
        real = dequantized(self._edit, output, qparams, node, f"{output.name}_dequantized")
        real.shape = shape
        self._edit.redirect(output, real, keep=real.inputs)
        self._integers[output], self._qparams[output] = output, qparams

    def _quantize_weight(self, node: Node, rule: WeightRule) -> None:
        """Stores weight and bias as integers; a bias is int32 in units of input times weight."""
        spec = WEIGHTED_OPS[node.op]
        weight = query.constant(node, spec.weight)
        assert weight is not None
        values = weight.values
        axis = output_channel_axis(node, values.ndim)
        granularity = PerChannel(axis) if rule.per_channel else PER_TENSOR
        qparams = rule.qparams(values, granularity)
        input_scale = self._qparams[self._data[node][0]].scale
        bias = None if spec.bias is None else query.constant(node, spec.bias)
        if bias is not None:
            largest = reduce_max_abs(values, granularity)
            qparams = _with_room_for(qparams, rule, largest, bias.values, input_scale)
        self.weights[node] = values, qparams
        real = stored_dequantized(self._edit, weight, values, qparams, node)
        stored = f"{weight.name} stored as {qparams.zero_point.dtype}"
        self._edit.set_input(node, spec.weight, real, stored)
        if bias is None or spec.bias is None:
            return
        scale = np.asarray(input_scale * qparams.scale, np.float32)
        vector = np.broadcast_to(bias.values.reshape(-1), values.shape[axis])
        levels = np.rint(vector.astype(np.float64) / scale).astype(np.int32)
        bias_qparams = QParams(
            scale, np.zeros(scale.shape, np.int32), PerChannel(0) if scale.ndim else PER_TENSOR
        )
        real = stored_dequantized(self._edit, bias, levels, bias_qparams, node)
        self._edit.set_input(node, spec.bias, real, f"{bias.name} stored as int32")


def _with_room_for(
    qparams: QParams,
    rule: WeightRule,
    largest: np.ndarray,
    bias: np.ndarray,
    input_scale: np.ndarray,
) -> QParams:
    """Weight scales with which the bias fits int32: a dead channel may have tiny weights.

    A channel of zeros gets the scale that suits its bias best.
    """
    magnitude = np.abs(bias.astype(np.float64)).reshape(-1)
    if not qparams.scale.ndim:
        magnitude = magnitude.max(initial=0.0)
    floor = np.maximum(magnitude / _BIAS_LIMIT, MIN_SCALE) / float(input_scale)
    dead = (largest == 0) & (magnitude > 0)
    scale = np.where(dead, floor, np.maximum(qparams.scale, floor)).astype(np.float32)
    return replace(qparams, scale=rule.allowed(scale))


def _saturates_like(activation: Node, qparams: QParams) -> bool:
    """Whether integers saturate wherever a Relu or Clip does, so that it has nothing left to do."""
    ends = np.array(qparams.limits, qparams.zero_point.dtype)
    low, high = dequantize(ends, qparams)
    slack = float(qparams.scale) / 2
    if activation.op == "Relu":
        lowest, highest = 0.0, np.inf
    else:
        lowest, highest = (
            _bound(activation, 1, "min", -np.inf),
            _bound(activation, 2, "max", np.inf),
        )
    return bool(low >= lowest - slack and high <= highest + slack)


def _bound(clip: Node, index: int, attribute: str, default: float) -> float:
    given = query.constant(clip, index)
    return clip.float_attr(attribute, default) if given is None else float(given.values.reshape(()))
