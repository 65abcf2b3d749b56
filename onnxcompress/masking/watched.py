"""What the inputs of weights are like on the calibration data, for criteria that go by them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.masking.weights import PrunableWeight
from onnxcompress.pass_base import Context
from onnxcompress.qdq.candidates import RECURRENT_OPS
from onnxcompress.qdq.matrices import inputs_of
from onnxcompress.qdq.moments import input_moments, size_of
from onnxcompress.quantization.rounding import Moments

_POSITIONS = 256
"""Rows taken of each sample: tokens of a text, output positions of a picture."""


def why_not_watched(weight: PrunableWeight, outermost: Collection[Node]) -> str | None:
    """Why it is not known what a weight is multiplied with; None if it is.

    Args:
        weight: of any float type.
        outermost: the nodes of the main graph.
    """
    if weight.constant.dtype != np.float32:
        return f"{weight.constant.name!r} is {weight.constant.dtype}; float32 inputs are watched"
    for node, _ in weight.readers:
        if node.op in RECURRENT_OPS:
            return f"what {node.op} multiplies its weights with at each step cannot be watched"
        if node.op == "ConvTranspose":
            return "spreads its inputs over overlapping outputs"
        if node not in outermost:
            return "stands in a body (If, Loop, Scan), whose tensors cannot be watched"
        if isinstance(node.inputs[0], Constant):
            return "its input is stored, not computed"
        if node.op == "Gemm" and node.int_attr("transA", 0):
            return "transposes its input (transA)"
        if node.op == "MatMul" and len(weight.constant.shape) != 2:
            return f"its weight {list(weight.constant.shape)} is not one matrix"
    return None


def input_rms(
    model: Model, weights: Sequence[PrunableWeight], context: Context
) -> dict[PrunableWeight, np.ndarray]:
    """The root mean square of what each weight is multiplied with, float64 [groups, features].

    All readers of a weight count. Takes one run over the data.
    """
    nodes = [node for weight in weights for node, _ in weight.readers]
    sums = {node: np.zeros(size_of(node)) for node in nodes}
    counts = dict.fromkeys(nodes, 0)
    names = list(dict.fromkeys(node.inputs[0].name for node in nodes))
    for batch in context.activations(model, names) if names else ():
        for node in nodes:
            rows = inputs_of(node, batch[node.inputs[0].name], _POSITIONS)
            sums[node] += np.square(rows).sum(axis=1, dtype=np.float64)
            counts[node] += rows.shape[1]
    return {
        weight: np.sqrt(
            sum(sums[node] for node, _ in weight.readers)
            / max(sum(counts[node] for node, _ in weight.readers), 1)
        )
        for weight in weights
    }


def second_moments(
    model: Model, weights: Sequence[PrunableWeight], context: Context
) -> Iterator[tuple[PrunableWeight, np.ndarray]]:
    """E[x x^T] of what each weight is multiplied with, float64 [groups, features, features].

    Weight by weight, as soon as all its readers were seen; see `input_moments` for the memory held
    and the runs over the data.
    """
    readers = {node: weight for weight in weights for node, _ in weight.readers}
    waiting: dict[PrunableWeight, dict[Node, Moments]] = {weight: {} for weight in weights}
    for portion in input_moments(model, list(readers), context, _POSITIONS):
        for node, moments in portion.items():
            weight = readers[node]
            waiting[weight][node] = moments
            if len(waiting[weight]) == len({reader for reader, _ in weight.readers}):
                yield weight, _together(waiting.pop(weight))


def _together(seen: Mapping[Node, Moments]) -> np.ndarray:
    if len(seen) == 1:
        return next(iter(seen.values())).second
    products = np.sum([each.products for each in seen.values()], axis=0)
    return np.asarray(products / max(sum(each.count for each in seen.values()), 1))
