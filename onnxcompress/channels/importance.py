"""How much the units of dependency groups matter, by any criterion."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

import numpy as np

from onnxcompress.channels.groups import Group, Groups
from onnxcompress.channels.readers import products_of, readers_of
from onnxcompress.channels.space import Axis
from onnxcompress.distillation.plan import GradientsOf
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Tensor
from onnxcompress.ir.views import final_readers
from onnxcompress.masking.given import GivenImportances
from onnxcompress.masking.ranking import rank
from onnxcompress.masking.slopes import CHANGES, changes_of_sums, why_no_gradient
from onnxcompress.masking.views import PRUNABLE_INPUTS, from_view
from onnxcompress.masking.weights import PrunableWeight
from onnxcompress.pass_base import Context
from onnxcompress.pruning.criteria import Criterion, importances
from onnxcompress.pruning.geometric_median import geometric_median_importance
from onnxcompress.pruning.unit_removal import (
    Removal,
    contributions,
    remove_greedily,
    remove_in_order,
)

_BY_PRODUCT = frozenset({Criterion.WANDA, Criterion.SECOND_ORDER})
"""Criteria that judge units by what the products that read them lose."""

_BY_MAGNITUDE = frozenset({Criterion.L1, Criterion.L2})
"""Criteria that ask for nothing but the weights."""

_MEANS: Mapping[Criterion, Callable[[np.ndarray], np.ndarray]] = {
    Criterion.ACTIVATION_MEAN: np.abs,
    Criterion.NONZERO_FRACTION: lambda values: values != 0,
}
"""Criteria that judge units by the mean of something over what is read of them.

Source: Molchanov et al. 2017 (arXiv 1611.06440), section 2.2, for mean activation; Hu et al.,
"Network Trimming", 2016 (arXiv 1607.03250), for the average percentage of zeros.
"""

Refuse = Callable[[Group, str], None]
"""Told of each group that cannot be ranked, and why."""


def removals(
    criterion: Criterion,
    model: Model,
    groups: Groups,
    context: Context,
    refuse: Refuse,
    *,
    seed: int = 0,
    given: GivenImportances | None = None,
    gradients_of: GradientsOf = GradientsOf.OUTPUTS,
    weights: Sequence[PrunableWeight],
    steps: Mapping[Group, int],
) -> Mapping[Group, Removal]:
    """In which order the units of each group should go, and at what cost.

    A unit matters as much as the weights that go with it, on either side. By `wanda` and
    `second-order` it is what it adds to the variance of the products that read it, or what they
    lose once the other units made up for it; the cost is then the error that they are left with.

    Args:
        criterion: not `threshold`.
        model: as it is.
        groups: whose units are judged.
        context: lends activations, for criteria that ask for them.
        refuse: records groups without a score.
        seed: of the choice by random.
        given: the user's importances.
        gradients_of: what gradients are taken of, for criteria that go by them.
        weights: what the model stores, for criteria that judge single weights.
        steps: units that go at once, by group.
    """
    if criterion is Criterion.RANDOM:
        return {group: Removal.by_score(_random(group, seed)) for group in groups.groups}
    if criterion in _BY_PRODUCT:
        return _by_product(criterion, model, groups, context, refuse, steps)
    if criterion in _MEANS:
        return _by_activation(_MEANS[criterion], model, groups, context, refuse)
    if criterion is Criterion.BATCHNORM:
        return _each(groups.groups, lambda group: _batchnorm(groups, group), refuse)
    if criterion is Criterion.GEOMETRIC_MEDIAN:
        return _each(groups.groups, lambda group: _geometric(groups, group), refuse)
    if criterion in CHANGES:
        scores = _by_change(criterion, model, groups, context, weights, gradients_of, seed)
        return _each(groups.groups, scores.__getitem__, refuse, comparable=True)
    slots = _by_weight(criterion, model, groups, context, weights, given, gradients_of, seed)
    return _each(groups.groups, lambda group: _summed(slots, group), refuse)


def _each(
    groups: Sequence[Group],
    score: Callable[[Group], np.ndarray | str],
    refuse: Refuse,
    *,
    comparable: bool = False,
) -> Mapping[Group, Removal]:
    found: dict[Group, Removal] = {}
    for group in groups:
        scores = score(group)
        if isinstance(scores, str):
            refuse(group, scores)
        else:
            found[group] = Removal.by_score(scores, comparable=comparable)
    return found


def _random(group: Group, seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, zlib.crc32(group.name.encode()), len(group)))
    return rng.random(len(group))


def _summed(slots: np.ndarray, group: Group) -> np.ndarray | str:
    scores: np.ndarray = np.nansum(slots[group.units], axis=1)
    if np.isnan(slots[group.units]).all():
        return "none of its weights has an importance by this criterion"
    return scores


def _by_weight(
    criterion: Criterion,
    model: Model,
    groups: Groups,
    context: Context,
    weights: Sequence[PrunableWeight],
    given: GivenImportances | None,
    gradients_of: GradientsOf,
    seed: int,
) -> np.ndarray:
    """float64 by slot: the summed importances of the weights in it; NaN where there are none."""
    space = groups.space
    wanted = {axis for group in groups.groups for axis in group.axes}
    tensors = {each.tensor for each in wanted}
    concerned = [weight for weight in weights if weight.constant in tensors]
    # A weight without an importance is no skip of its own: the others of its group may have one.
    ranked = rank(
        criterion,
        model,
        concerned,
        context,
        lambda *_: None,
        seed=seed,
        given=given,
        gradients_of=gradients_of,
    ).importances
    found = np.full(space.size, np.nan)

    def add(constant: Constant, values: np.ndarray) -> None:
        for axis in space.axes_of(constant):
            if axis in wanted:
                others = tuple(a for a in range(values.ndim) if a != axis.axis)
                found[axis.slots] = values.sum(axis=others, dtype=np.float64)

    for weight, view in ranked.items():
        add(weight.constant, from_view(weight.node, view, weight.constant.shape))
    if criterion in _BY_MAGNITUDE:
        known = {weight.constant for weight in ranked}
        for tensor in tensors - known:
            if _is_viewed_weight(tensor):
                add(tensor, importances(criterion, tensor.values))
    return found


def _is_viewed_weight(tensor: Tensor) -> TypeGuard[Constant]:
    """Whether products read a stored float tensor by way of nodes that hand it on."""
    if not isinstance(tensor, Constant) or len(tensor.shape) < 2 or tensor.dtype.kind != "f":
        return False
    return any(node.op in PRUNABLE_INPUTS for node in final_readers(tensor))


def _by_change(
    criterion: Criterion,
    model: Model,
    groups: Groups,
    context: Context,
    weights: Sequence[PrunableWeight],
    gradients_of: GradientsOf,
    seed: int,
) -> Mapping[Group, np.ndarray | str]:
    """What the loss changes by, to first order, once all weights of a unit are zero."""
    space = groups.space
    wanted = {axis for group in groups.groups for axis in group.axes}
    axes = {
        weight.constant: [axis for axis in space.axes_of(weight.constant) if axis in wanted]
        for weight in weights
        if space.knows(weight.constant) and why_no_gradient(weight) is None
    }
    axes = {constant: own for constant, own in axes.items() if own}
    has_weight = np.zeros(space.size, bool)
    for own in axes.values():
        for axis in own:
            has_weight[axis.slots] = True

    def summed(products: Mapping[Constant, np.ndarray]) -> np.ndarray:
        slots = np.zeros(space.size)
        for constant, values in products.items():
            for axis in axes[constant]:
                others = tuple(each for each in range(values.ndim) if each != axis.axis)
                slots[axis.slots] += values.sum(axis=others, dtype=np.float64)
        return np.concatenate([slots[group.units].sum(axis=1) for group in groups.groups])

    if not axes:
        return dict.fromkeys(groups.groups, "none of its weights has a gradient")
    total = changes_of_sums(criterion, model, list(axes), summed, context, gradients_of, seed)
    ends = np.cumsum([len(group) for group in groups.groups])
    parts = np.split(total, ends[:-1])
    return {
        group: part if has_weight[group.units].any() else "none of its weights has a gradient"
        for group, part in zip(groups.groups, parts, strict=True)
    }


def _by_product(
    criterion: Criterion,
    model: Model,
    groups: Groups,
    context: Context,
    refuse: Refuse,
    steps: Mapping[Group, int],
) -> Mapping[Group, Removal]:
    readers = []
    for group in groups.groups:
        own = readers_of(groups, group)
        if own:
            readers.append((group, own))
        else:
            refuse(group, "no product with a stored weight reads it that could be watched")
    found: dict[Group, Removal] = {}
    for group, products in products_of(model, readers, context):
        if criterion is Criterion.SECOND_ORDER:
            found[group] = remove_greedily(products, steps[group])
        else:
            order = np.argsort(contributions(products), kind="stable")
            found[group] = remove_in_order(products, order, steps[group])
    return found


def _by_activation(
    of: Callable[[np.ndarray], np.ndarray],
    model: Model,
    groups: Groups,
    context: Context,
    refuse: Refuse,
) -> Mapping[Group, Removal]:
    """Means over the data of what products read of each unit."""
    space = groups.space
    read: dict[Group, list[Axis]] = {}
    for group in groups.groups:
        tensors = {each.node.inputs[0] for each in readers_of(groups, group)}
        read[group] = [axis for axis in group.axes if axis.tensor in tensors]
    sums, counts = np.zeros(space.size), np.zeros(space.size)
    axes = list(dict.fromkeys(axis for own in read.values() for axis in own))
    names = list(dict.fromkeys(axis.tensor.name for axis in axes))
    for batch in context.activations(model, names) if names else ():
        for axis in axes:
            values = of(np.moveaxis(batch[axis.tensor.name], axis.axis, 0))
            rows = values.reshape(axis.length, -1)
            sums[axis.slots] += rows.sum(axis=1, dtype=np.float64)
            counts[axis.slots] += rows.shape[1]
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return _each(groups.groups, lambda group: _summed(means, group), refuse)


def _geometric(groups: Groups, group: Group) -> np.ndarray | str:
    """Distances between the weights that make the units: all they store but what reads them."""
    space = groups.space
    read = {each.node for each in readers_of(groups, group)}
    rows = []
    for axis in group.axes:
        tensor = axis.tensor
        if not isinstance(tensor, Constant) or len(tensor.shape) < 2:
            continue
        if (tensor, axis.axis) not in space.parameters or read & set(query.consumers(tensor)):
            continue
        place = np.full(space.size, -1)
        place[axis.slots] = np.arange(axis.length)
        chosen = place[group.units]
        values = np.moveaxis(tensor.values, axis.axis, 0).reshape(axis.length, -1)
        rows.append(values[chosen[chosen >= 0].reshape(len(group), -1)].reshape(len(group), -1))
    if not rows:
        return "no weight makes its units alone"
    return geometric_median_importance(np.concatenate(rows, axis=1))


def _batchnorm(groups: Groups, group: Group) -> np.ndarray | str:
    """|scale| of the BatchNormalization nodes that the units pass (Liu et al. 2017)."""
    slots = np.full(groups.space.size, np.nan)
    for axis in group.axes:
        for node in query.consumers(axis.tensor):
            if node.op == "BatchNormalization" and node.inputs[1] is axis.tensor:
                assert isinstance(axis.tensor, Constant)
                slots[axis.slots] = np.abs(axis.tensor.values)
    scores = _summed(slots, group)
    return "it passes no BatchNormalization" if isinstance(scores, str) else scores
