"""Biases that take up the mean error which quantization leaves in each channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.matrices import inputs_of, to_matrices
from onnxcompress.qdq.reading import dequantized_values, dequantizer

_POSITIONS = 1024
"""Output positions of each sample from which the mean input of a window is taken."""


class CorrectionMethod(Enum):
    """How the mean error is found, by the names recipes use."""

    ANALYTIC = "analytic"
    EMPIRICAL = "empirical"


@dataclass(frozen=True, kw_only=True)
class CorrectBias(Pass):
    """Conv(x, DQ(W_q), DQ(b))  ->  Conv(x, DQ(W_q), DQ(b + E[float output] - E[output])).

    To run after quantize-static, on Conv and Gemm with a bias. The reference is the context's float
    model; nodes are matched by name.
    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
    2019, section 4.2.

    Attributes:
        method: `analytic` multiplies the rounding error of each weight by the mean float input: one
            run over the data, blind to the rounding of activations. `empirical` compares outputs of
            the two models, node after node, as each changes what later ones see: a run for each.
    """

    name: ClassVar[str] = "correct-bias"
    seeks: ClassVar[str] = "quantized Conv or Gemm: it goes after quantize-static"

    method: CorrectionMethod = CorrectionMethod.ANALYTIC

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        original = context.float_model
        named = {} if original is None else {node.name: node for node in original.graph.nodes}
        chosen: dict[CorrectionMethod, dict[Node, Node]] = {each: {} for each in CorrectionMethod}
        for node in query.nodes(model, {"Conv", "Gemm"}):
            if dequantizer(node, 1) is None:
                continue  # not quantized: nothing to correct
            options = self.at(node)
            reference = named.get(node.name)
            reason = EXCLUDED if options is None else _unfit(model, node, reference)
            if original is None:
                reason = "no float model is known to compare with"
            if reason is not None:
                edit.skip(node, reason)
                continue
            assert options is not None and reference is not None
            chosen[options.method][node] = reference
        if original is None:
            return
        analytic, empirical = (chosen[each] for each in CorrectionMethod)
        if analytic:
            inputs = _mean_inputs(original, analytic.values(), context)
            for node, reference in analytic.items():
                _set_bias(edit, node, _bias(reference) - _mean_shift(node, reference, inputs))
        if empirical:
            wanted = _mean_outputs(original, empirical.values(), context)
            for node, reference in empirical.items():
                error = _mean_outputs(model, [node], context)[node] - wanted[reference]
                _set_bias(edit, node, _stored_bias(node) - error)


def _unfit(model: Model, node: Node, reference: Node | None) -> str | None:
    """Why a quantized node is left alone; None if it need not be."""
    bias = dequantizer(node, 2)
    if bias is None:
        return "it has no stored bias to correct"
    if query.only_consumer(model, bias.outputs[0]) is None:
        return f"{bias.outputs[0].name!r} has other readers"
    if node not in model.graph.nodes:
        return "stands in a body (If, Loop, Scan), whose tensors cannot be watched"
    if reference is None or reference.op != node.op:
        return "the float model has no such node"
    weight = query.constant(reference, 1)
    if weight is None or weight.shape != dequantized_values(node, 1).shape:
        return "the weight of the float model's node is not stored, or of another shape"
    return None if query.constant(reference, 2) is not None else "the float bias is not stored"


def _stored_bias(node: Node) -> np.ndarray:
    """float64 [channels]: the bias as the integers give it."""
    return dequantized_values(node, 2).reshape(-1)


def _bias(reference: Node) -> np.ndarray:
    """float64 [channels] or [1]: the float bias."""
    bias = query.constant(reference, 2)
    assert bias is not None
    return bias.values.astype(np.float64).reshape(-1)


def _mean_shift(node: Node, reference: Node, inputs: Mapping[Node, np.ndarray]) -> np.ndarray:
    """float64 [channels]: what the rounding of the weight adds to the mean output."""
    weight = query.constant(reference, 1)
    assert weight is not None
    errors = to_matrices(node, dequantized_values(node, 1) - weight.values)
    shift: np.ndarray = np.einsum("gof,gf->go", errors, inputs[reference]).reshape(-1)
    return shift


def _set_bias(edit: Editor, node: Node, values: np.ndarray) -> None:
    """Stores a bias (float64 [channels]) as integers of the scale that it has."""
    stored = dequantizer(node, 2)
    assert stored is not None
    levels, scale = stored.inputs[:2]
    assert isinstance(levels, Constant) and isinstance(scale, Constant)
    info = np.iinfo(levels.dtype)
    steps = np.rint(values / scale.values.astype(np.float64)).clip(info.min, info.max)
    corrected = steps.astype(levels.dtype).reshape(levels.shape)
    if not np.array_equal(corrected, levels.values):
        edit.set_values(stored, 0, corrected, f"bias of {node.name} corrected")


def _mean_inputs(model: Model, nodes: Iterable[Node], context: Context) -> dict[Node, np.ndarray]:
    """For each node float64 [groups, features]: E[x] of what its weight is multiplied with."""
    nodes = list(nodes)
    totals: dict[Node, np.ndarray] = {}
    counts = dict.fromkeys(nodes, 0)
    for batch in context.activations(model, list({node.inputs[0].name: None for node in nodes})):
        for node in nodes:
            rows = inputs_of(node, batch[node.inputs[0].name], _POSITIONS)
            totals[node] = totals.get(node, 0.0) + rows.sum(axis=1, dtype=np.float64)
            counts[node] += rows.shape[1]
    return {node: totals[node] / counts[node] for node in nodes}


def _mean_outputs(model: Model, nodes: Iterable[Node], context: Context) -> dict[Node, np.ndarray]:
    """For each node float64 [channels]: the mean of its output."""
    names = {node: node.outputs[0].name for node in nodes}
    totals: dict[str, np.ndarray] = {}
    counts = dict.fromkeys(names.values(), 0)
    for batch in context.activations(model, list(counts)):
        for name, values in batch.items():
            axes = tuple(a for a in range(values.ndim) if a != 1)
            totals[name] = totals.get(name, 0.0) + values.sum(axis=axes, dtype=np.float64)
            counts[name] += values.size // values.shape[1]
    return {node: totals[name] / counts[name] for node, name in names.items()}
