"""Second-order pruning of a model's weights: what each costs, and what the rest makes up for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxcompress.ir.model import Model
from onnxcompress.masking.watched import second_moments
from onnxcompress.masking.weights import PrunableWeight
from onnxcompress.pass_base import Context
from onnxcompress.pruning.second_order import Choice, prune_with_correction
from onnxcompress.quantization.compensation import Compensation, SingularMomentsError

_DAMPING = 0.01
"""Share of the mean square of the inputs added to each: what the SparseGPT paper uses."""

_MOST_FEATURES = 8192
"""Weights that sum more products for an output are left alone: memory grows with the square."""

_NEXT_TO_NOTHING = 1e-20
"""The mean square taken for inputs that were zero throughout."""

_BYTES_HELD = 512 << 20
"""Compensations kept from finding costs to pruning; others are found twice."""


@dataclass(frozen=True)
class Compensated:
    """How the weights of each output make up for one another.

    Attributes:
        costs: for each weight float32 [groups, features], see `Facts.costs`.
        held: one compensation for each group, of as many weights as fit in memory.
    """

    costs: dict[PrunableWeight, np.ndarray] = field(default_factory=dict)
    held: dict[PrunableWeight, Sequence[Compensation]] = field(default_factory=dict)


def compensate(
    model: Model,
    weights: Sequence[PrunableWeight],
    context: Context,
    skip: Callable[[PrunableWeight, str], None],
) -> Compensated:
    """Finds what every weight costs; `skip` is told of weights where that cannot be known."""
    found = Compensated()
    fit = []
    for weight in weights:
        features = weight.view().shape[2]
        if features > _MOST_FEATURES:
            skip(weight, f"{features} features are too many for second-order, {_MOST_FEATURES} fit")
        else:
            fit.append(weight)
    room = _BYTES_HELD
    for weight, each in _compensations(model, fit, context):
        if isinstance(each, str):
            skip(weight, each)
            continue
        found.costs[weight] = np.stack([group.costs for group in each])
        room -= sum(group.factor.nbytes for group in each)
        if room >= 0:
            found.held[weight] = each
    return found


def corrected(
    model: Model,
    masks: Mapping[PrunableWeight, np.ndarray],
    compensated: Compensated,
    choice_for: Callable[[PrunableWeight], Choice | None],
    context: Context,
) -> Iterator[tuple[PrunableWeight, np.ndarray]]:
    """Prunes weights; those left make up for those that go, see `prune_with_correction`.

    Args:
        model: the weights' own, as it was when their costs were found.
        masks: bool [groups, outputs, features] of each.
        compensated: what `compensate` found for them.
        choice_for: how masks are refined on the way.
        context: lends the activations where compensations were not held.

    Yields:
        Each weight with float32 [groups, outputs, features].
    """
    rest = [weight for weight in masks if weight not in compensated.held]
    for known in (compensated.held.items(), _compensations(model, rest, context)):
        for weight, each in known:
            if weight in masks and not isinstance(each, str):
                choice = choice_for(weight)
                yield weight, prune_with_correction(weight.view(), masks[weight], each, choice)


def _compensations(
    model: Model, weights: Sequence[PrunableWeight], context: Context
) -> Iterator[tuple[PrunableWeight, Sequence[Compensation] | str]]:
    """The compensations of each weight, one for each group; or why there are none."""
    for weight, moments in second_moments(model, weights, context):
        if moments.any():  # a group without input, among others, loses all before they lose any
            moments[~moments.any(axis=(1, 2))] = _NEXT_TO_NOTHING * np.eye(moments.shape[2])
        try:
            groups = [Compensation.of(m, damping=_DAMPING, by_importance=False) for m in moments]
            yield weight, groups
        except SingularMomentsError as fault:
            yield weight, f"{fault}: more or other calibration data is needed"
