"""What gradients say of weights: means over the calibration data, batch by batch.

Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019 (a change of
the loss to first order, over all weights that go together); Liu et al., "Group Fisher Pruning for
Practical Network Compression", ICML 2021 (its square, which is the Fisher information).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxcompress.distillation.plan import GradientsOf
from onnxcompress.ir.model import Constant, Model
from onnxcompress.masking.weights import PrunableWeight
from onnxcompress.pass_base import Context
from onnxcompress.pruning.criteria import Criterion

CHANGES: Mapping[Criterion, Callable[[np.ndarray], np.ndarray]] = {
    Criterion.TAYLOR: np.abs,
    Criterion.FISHER: np.square,
}
"""What becomes of the change of the loss, gradient times value, summed over what goes together."""

GRADIENT_CRITERIA = frozenset({Criterion.GRADIENT, *CHANGES})
"""Criteria that go by gradients."""


def why_no_gradient(weight: PrunableWeight) -> str | None:
    """Why no gradient is taken of a weight; None if one is."""
    if weight.constant.dtype != np.float32:
        return f"{weight.constant.name!r} is {weight.constant.dtype}; float32 is needed"
    return None


def slopes(
    criterion: Criterion,
    model: Model,
    weights: Sequence[PrunableWeight],
    context: Context,
    of: GradientsOf,
    seed: int,
) -> dict[PrunableWeight, np.ndarray]:
    """The mean over batches of |g|, |g w| or (g w)^2: float32 [groups, outputs, features] each.

    Args:
        criterion: one of `GRADIENT_CRITERIA`.
        model: that the weights belong to.
        weights: float32.
        context: lends the gradients.
        of: what they are taken of.
        seed: of what is drawn where that is the outputs.
    """
    constants = [weight.constant for weight in weights]
    values = {constant: constant.values for constant in constants}
    sums = {constant: np.zeros(constant.shape) for constant in constants}
    batches = 0
    for found in context.gradients(model, constants, of, seed) if constants else ():
        batches += 1
        for constant, slope in found.items():
            if criterion is Criterion.GRADIENT:
                sums[constant] += np.abs(slope)
            else:
                sums[constant] += CHANGES[criterion](slope * values[constant])
    return {
        weight: weight.view((sums[weight.constant] / max(batches, 1)).astype(np.float32))
        for weight in weights
    }


def changes_of_sums(
    criterion: Criterion,
    model: Model,
    constants: Sequence[Constant],
    summed: Callable[[Mapping[Constant, np.ndarray]], np.ndarray],
    context: Context,
    of: GradientsOf,
    seed: int,
) -> np.ndarray:
    """The mean over batches of what `CHANGES` makes of sums of g w.

    Args:
        criterion: a key of `CHANGES`.
        model: that the stored tensors belong to.
        constants: float32.
        summed: from the products g w, by stored tensor, to one number for each thing judged.
        context: lends the gradients.
        of: what they are taken of.
        seed: of what is drawn where that is the outputs.
    """
    values = {constant: constant.values for constant in constants}
    total: np.ndarray | None = None
    batches = 0
    for found in context.gradients(model, constants, of, seed):
        batches += 1
        now = CHANGES[criterion](summed({each: found[each] * values[each] for each in constants}))
        total = now if total is None else total + now
    assert total is not None
    return np.asarray(total / batches)
