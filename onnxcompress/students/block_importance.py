"""How much residual blocks matter.

Source: Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
2024, section 3.1, for the cosine between what goes into a block and what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import numpy as np

from onnxcompress.errors import ModelError
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Tensor, Variable
from onnxcompress.pass_base import Context
from onnxcompress.students.blocks import Block


class BlockCriterion(Enum):
    """What a block is judged by, by the names recipes use.

    `cosine` is 1 less the mean cosine of the vectors before and after it; `change` the squared
    change that it makes over the square of what comes out; `outputs` the squared change of the
    model's outputs when it alone is left out, over their variance.
    """

    COSINE = "cosine"
    CHANGE = "change"
    OUTPUTS = "outputs"


def bypass(edit: Editor, blocks: Sequence[Block]) -> None:
    """Leaves blocks out, given in order: what read their ends reads their starts."""
    instead: dict[Tensor, Variable] = {}
    for block in blocks:
        start = instead.get(block.start, block.start)
        edit.redirect(block.end, start)
        instead[block.end] = start


def block_importances(
    criterion: BlockCriterion, model: Model, blocks: Sequence[Block], context: Context
) -> Mapping[Block, float]:
    """The importance of each block, at least 0.

    Raises:
        DataError: there are no data.
        ModelError: no output of the model is of floats, for the criterion that goes by them.
    """
    if criterion is BlockCriterion.OUTPUTS:
        return {block: _by_outputs(model, block, context) for block in blocks}
    return _by_ends(_SUMS[criterion], model, blocks, context)


def _cosine(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Sum over positions of 1 - cosine, and their count."""
    norms = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
    cosines = np.einsum("pc,pc->p", before, after) / np.maximum(norms, 1e-30)
    return float(np.sum(1 - cosines)), float(len(cosines))


def _change(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    return float(np.sum(np.square(after - before))), float(np.sum(np.square(after)))


_SUMS: Mapping[BlockCriterion, Callable[[np.ndarray, np.ndarray], tuple[float, float]]] = {
    BlockCriterion.COSINE: _cosine,
    BlockCriterion.CHANGE: _change,
}
"""Numerator and denominator of an importance, of float64 [positions, channels] before and after."""


def _by_ends(
    sums: Callable[[np.ndarray, np.ndarray], tuple[float, float]],
    model: Model,
    blocks: Sequence[Block],
    context: Context,
) -> Mapping[Block, float]:
    totals = {block: np.zeros(2) for block in blocks}
    names = list(dict.fromkeys(t.name for block in blocks for t in (block.start, block.end)))
    for batch in context.activations(model, names):
        for block, total in totals.items():
            ends = (batch[tensor.name] for tensor in (block.start, block.end))
            total += sums(*(_positions(values, block.channel_axis) for values in ends))
    return {block: max(float(a / max(b, 1e-30)), 0.0) for block, (a, b) in totals.items()}


def _positions(values: np.ndarray, axis: int) -> np.ndarray:
    rows = np.moveaxis(values, axis, -1)
    return rows.reshape(-1, rows.shape[-1]).astype(np.float64)


def _by_outputs(model: Model, block: Block, context: Context) -> float:
    names = [tensor.name for tensor in model.graph.outputs if isinstance(tensor, Variable)]
    without = clone(model)
    written = {tensor.name: tensor for tensor in without.graph.inputs}
    written |= {each.name: each for node in without.graph.nodes for each in node.outputs}
    edit = Editor(without)
    edit.redirect(written[block.end.name], written[block.start.name])
    edit.finish()
    change, square, total, count = (dict.fromkeys(names, 0.0) for _ in range(4))
    paired = context.paired_activations(model, without)
    for before, after in paired.batches(names, names, model.graph.nodes[0]):
        for name in names:
            if before[name].dtype.kind != "f":
                continue
            one, other = (each[name].astype(np.float64) for each in (before, after))
            change[name] += float(np.square(other - one).sum())
            square[name] += float(np.square(one).sum())
            total[name] += float(one.sum())
            count[name] += one.size
    variances = {
        name: square[name] - total[name] ** 2 / count[name] for name in names if count[name]
    }
    if not variances:
        raise ModelError("no output is of floats: judge blocks by cosine or change instead")
    shares = [change[name] / max(variance, 1e-30) for name, variance in variances.items()]
    return float(np.mean(shares))
