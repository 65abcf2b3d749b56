"""Weights stored as integers that are chosen one after another, each making up for those before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import EXCLUDED, Context
from onnxcompress.qdq.gptq_weights import GPTQSettings, RoundedWeight, rounded_weight
from onnxcompress.qdq.integer_weights import (
    IntegerWeights,
    WeightBits,
    WeightGranularity,
    WeightScales,
)
from onnxcompress.qdq.matrices import add_to_bias, to_matrices
from onnxcompress.qdq.moments import input_moments
from onnxcompress.qdq.ties import Ties
from onnxcompress.qdq.weight_forms import WeightForm
from onnxcompress.quantization.rounding import Moments

_POSITIONS = 256
"""Rows taken of each sample: tokens of a text, output positions of a picture."""


@dataclass(frozen=True)
class _Weight:
    """What is rounded at once: a weight and how its readers use it.

    Attributes:
        constant: the weight.
        layout: see `_layout`.
        options: the pass with the options that hold for the readers.
    """

    constant: Constant
    layout: tuple[bool, int]
    options: GPTQ


@dataclass(frozen=True, kw_only=True)
class GPTQ(IntegerWeights):
    """MatMul(x, W)  ->  MatMul(x, DequantizeLinear(W_int4, scale)), W_int4 chosen by GPTQ.

    Conv, Gemm and MatMul. Stored like quantize-weights stores them, with the same options, but the
    integers are those with which outputs on the calibration data change least; where there is a
    stored bias, it takes up the mean of that change. Readers of one weight decide together.
    Source: see `quantization.gptq`.

    Attributes:
        damping: share of the mean square of the inputs added to each: more trusts the data less.
        by_importance: inputs of large mean square are rounded first (act-order).
        sweeps: rounds through all weights afterwards, in which each goes where the error is least
            with all others as they are; fewer if none moves any more.
        max_features: nodes that sum more products for an output stay float; the memory needed
            grows with the square.
    """

    name: ClassVar[str] = "gptq"

    bits: WeightBits = WeightBits.FOUR
    granularity: WeightGranularity = WeightGranularity.PER_BLOCK
    scales: WeightScales = WeightScales.FITTED
    damping: float = 0.01
    by_importance: bool = True
    sweeps: int = 2
    max_features: int = 8192

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        readers: dict[_Weight, list[Node]] = defaultdict(list)
        outermost = set(model.graph.nodes)
        for node in query.nodes(model, WEIGHTED_OPS):
            options = self.at(node)
            reason = EXCLUDED if options is None else options._unfit(node, node in outermost)
            if reason is not None:
                edit.skip(node, reason)
                continue
            weight = query.constant(node, 1)
            assert weight is not None and options is not None
            readers[_Weight(weight, _layout(node), options)].append(node)
        if not readers:
            return
        uses = self.uses(model, context)
        ties = Ties(model)
        # Nodes are written last: until then the model runs as it was.
        for each, result in _rounded(model, readers, context).items():
            for node in readers[each]:
                if isinstance(result, str):
                    edit.skip(node, result)
                    continue
                shift = result.shifts[node]
                if shift is not None:
                    add_to_bias(edit, node, shift)
                weight, integers, use = each.constant, result.integers, uses.get(node)
                form = each.options.store(
                    edit, node, weight, integers, result.qparams, share=True, use=use
                )
                at_load = form is WeightForm.AT_LOAD
                ties.note(edit, node, integers, result.qparams, at_load=at_load)
        ties.read_all_stored(edit, self._excluded, edit.skip)

    def _excluded(self, node: Node) -> str | None:
        return EXCLUDED if self.at(node) is None else None

    def _unfit(self, node: Node, outermost: bool) -> str | None:
        """Why a candidate stays float; None if it need not."""
        weight = query.constant(node, 1)
        reason = self.why_not(node, weight)
        if reason is not None:
            return reason
        assert weight is not None
        if node.op == "ConvTranspose":
            return "spreads its inputs over overlapping outputs; quantize-weights stores it"
        if not outermost:
            return "stands in a body (If, Loop, Scan), whose tensors cannot be watched"
        if isinstance(node.inputs[0], Constant):
            return "its input is stored, not computed"
        if node.op == "Gemm" and node.int_attr("transA", 0):
            return "transposes its input (transA)"
        if node.op == "MatMul" and len(weight.shape) != 2:
            return f"its weight {list(weight.shape)} is not one matrix"
        features = to_matrices(node, weight.values).shape[2]
        if features > self.max_features:
            return f"{features} features > max_features={self.max_features}"
        return None

    def rounded(self, weight: Constant, readers: Mapping[Node, Moments]) -> RoundedWeight | str:
        """The integers for a weight from the moments of its readers, or why there are none."""
        node = next(iter(readers))
        return rounded_weight(
            weight.values,
            readers,
            lambda costs: self.qparams_for(node, weight, costs),
            GPTQSettings(self.damping, self.by_importance, self.sweeps),
        )


def _rounded(
    model: Model, readers: Mapping[_Weight, Sequence[Node]], context: Context
) -> dict[_Weight, RoundedWeight | str]:
    """Each weight's integers, as soon as the moments of all its readers are known."""
    reads = {node: weight for weight, nodes in readers.items() for node in nodes}
    waiting: dict[_Weight, dict[Node, Moments]] = defaultdict(dict)
    rounded: dict[_Weight, RoundedWeight | str] = {}
    for portion in input_moments(model, list(reads), context, _POSITIONS):
        for node, moments in portion.items():
            weight = reads[node]
            waiting[weight][node] = moments
            if len(waiting[weight]) == len(readers[weight]):
                rounded[weight] = weight.options.rounded(weight.constant, waiting.pop(weight))
    return rounded


def _layout(node: Node) -> tuple[bool, int]:
    """Whether a weight is read as [features, outputs], and in how many groups."""
    transposed = node.op == "MatMul" or (node.op == "Gemm" and not node.int_attr("transB", 0))
    return transposed, node.int_attr("group", 1)
