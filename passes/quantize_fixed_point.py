"""Weights and activations in fixed point: scales that are powers of two."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.errors import RecipeError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node, Tensor
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import EXCLUDED, Context, Pass, is_weight
from onnxcompress.qdq.finite import place_finite
from onnxcompress.qdq.insert import stored_dequantized
from onnxcompress.qdq.kernels import NO_16_BIT_KERNEL, NO_16_BITS, NO_KERNEL, ROLES, WEIGHTED
from onnxcompress.qdq.placement import Placement
from onnxcompress.qdq.rewrite import Rewriter, WeightRule
from onnxcompress.qdq.ties import Ties
from onnxcompress.quantization.fixed_point import (
    MAX_WORD,
    MIN_WORD,
    MOST_FRACTION_BITS,
    FixedPoint,
    format_for,
    next_power_of_two,
)
from onnxcompress.quantization.granularity import Granularity
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.quantization.qparams import QParams

_CANDIDATES = {op for op, role in ROLES.items() if role in WEIGHTED}


class FractionBits(Enum):
    """How the point is placed where no number is given, by the names recipes use."""

    AUTO = "auto"


class FixedPointTensors(Enum):
    """Which tensors become fixed point, by the names recipes use."""

    ALL = "all"
    WEIGHTS = "weights"


@dataclass(frozen=True, kw_only=True)
class QuantizeFixedPoint(Pass):
    """Conv(x, W, b)  ->  DQ(Q(Conv(DQ(Q(x)), DQ(W_int), DQ(b_int32)))), every scale a power of 2.

    For devices without floats, whose results onnxruntime then shows bit for bit: see
    `quantization.fixed_point` for the integer arithmetic. Conv, Gemm and MatMul, with one format
    for each tensor and biases of 32 bits. Source: ONNX QuantizeLinear, opset 13; 21 for words of
    more than 8 bits, which are kept in int16.

    Attributes:
        word_length: bits of a number, the sign among them, 4 to 16.
        fraction_bits: how many of them lie behind the point, for every tensor; may be negative or
            more than there are. `auto` takes for each tensor the most with which nothing that was
            seen saturates.
        tensors: weights and activations, which needs calibration data, or weights alone.
    """

    name: ClassVar[str] = "quantize-fixed-point"
    packs: ClassVar[bool] = True

    word_length: int = 8
    fraction_bits: int | FractionBits = FractionBits.AUTO
    tensors: FixedPointTensors = FixedPointTensors.ALL

    def __post_init__(self) -> None:
        if not MIN_WORD <= self.word_length <= MAX_WORD:
            raise RecipeError(
                f"pass {self.name!r}: word_length takes {MIN_WORD} to {MAX_WORD}, "
                f"not {self.word_length}"
            )
        given = self.fraction_bits
        if isinstance(given, int) and abs(given) > MOST_FRACTION_BITS:
            raise RecipeError(
                f"pass {self.name!r}: fraction_bits takes at most {MOST_FRACTION_BITS}, not {given}"
            )

    def required_opset(self) -> int:
        """See `Pass.required_opset`."""
        return 13 if self.word_length <= 8 else 21

    def packs_halves(self) -> bool:
        """See `Pass.packs_halves`."""
        return self.word_length <= 8

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        if self.tensors is FixedPointTensors.WEIGHTS:
            self._weights_only(model, edit)
            return

        def unfit(node: Node) -> str | None:
            options = self.at(node)
            if options is None:
                return EXCLUDED
            wide = options.word_length > 8 and node.op in NO_16_BIT_KERNEL
            return NO_16_BITS if wide else None

        def observed(names: Sequence[str]) -> Collection[str]:
            return context.ranges(model, names, Observer.MIN_MAX)

        placement = place_finite(model, unfit, edit.skip, observed)
        if not placement.nodes:
            return
        qparams = self._activations(model, placement, context)

        def rule(node: Node) -> WeightRule:
            options = self.at(node)
            assert options is not None
            return WeightRule(options._weight, allowed=next_power_of_two)

        ties = Ties(model)
        rewriter = Rewriter(edit=edit, placement=placement, qparams=qparams)
        rewriter.rewrite(rule)
        for node, stored in rewriter.weights.items():
            ties.note(edit, node, *stored)
        ties.read_all_stored(edit, unfit, edit.skip)

    def _activations(
        self, model: Model, placement: Placement, context: Context
    ) -> Mapping[Tensor, QParams]:
        """Formats for every tensor, by the options of its first reader."""
        options = placement.for_tensors(self.at, self)
        names = [tensor.name for tensor in options]
        ranges = context.ranges(model, names, Observer.MIN_MAX)
        return {
            tensor: chosen._format(ranges[tensor.name]).qparams
            for tensor, chosen in options.items()
        }

    def _weights_only(self, model: Model, edit: Editor) -> None:
        outermost = set(model.graph.nodes)
        ties = Ties(model)
        for node in query.nodes(model, {*_CANDIDATES, *NO_KERNEL}):
            options = self.at(node)
            reason = EXCLUDED if options is None else _unfit(node)
            if reason is not None:
                edit.skip(node, reason)
                continue
            assert options is not None
            index = WEIGHTED_OPS[node.op].weight
            weight = query.constant(node, index)
            assert weight is not None
            qparams = options._format(_range_of(weight.values)).qparams
            share = node in outermost
            real = stored_dequantized(edit, weight, weight.values, qparams, node, share=share)
            edit.set_input(node, index, real, f"{weight.name} stored in fixed point")
            ties.note(edit, node, weight.values, qparams)
        ties.read_all_stored(edit, self._excluded, edit.skip)

    def _excluded(self, node: Node) -> str | None:
        return EXCLUDED if self.at(node) is None else None

    def _weight(self, values: np.ndarray, granularity: Granularity) -> QParams:
        del granularity  # one format for each tensor
        return self._format(_range_of(values)).qparams

    def _format(self, observed: Range) -> FixedPoint:
        if isinstance(self.fraction_bits, int):
            return FixedPoint(self.word_length, self.fraction_bits)
        return format_for(observed, self.word_length)


def _range_of(values: np.ndarray) -> Range:
    return Range(float(values.min(initial=0.0)), float(values.max(initial=0.0)))


def _unfit(node: Node) -> str | None:
    """Why a weight stays float; None if it need not."""
    if node.op in NO_KERNEL:
        return NO_KERNEL[node.op]
    weight = query.constant(node, WEIGHTED_OPS[node.op].weight)
    if weight is None or not is_weight(weight):
        return "its weight is not stored as float32 in the model"
    return None if np.isfinite(weight.values).all() else "its weight holds NaN or infinities"
