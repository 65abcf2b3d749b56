"""Importances of a model's weights by a criterion, and masks of many weights together."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from onnxcompress.distillation.plan import GradientsOf
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.correction import Compensated, compensate
from onnxcompress.masking.given import GivenImportances
from onnxcompress.masking.slopes import GRADIENT_CRITERIA, slopes, why_no_gradient
from onnxcompress.masking.watched import input_rms, why_not_watched
from onnxcompress.masking.weights import PrunableWeight
from onnxcompress.pass_base import Context
from onnxcompress.pruning.criteria import Criterion, Facts, importances
from onnxcompress.pruning.masks import keep_most, keep_most_of_rows, layer_adaptive

_WATCHED = frozenset({Criterion.WANDA, Criterion.SECOND_ORDER})
"""Criteria that need to know what a weight is multiplied with."""


class Scope(Enum):
    """What shares one sparsity, by the names recipes use."""

    OUTPUT = "output"
    NODE = "node"
    OP_TYPE = "op-type"
    GLOBAL = "global"


class Computed(Mapping[PrunableWeight, np.ndarray]):
    """An array for each weight, computed whenever it is asked for: a model's would take its size.

    Args:
        weights: what there are arrays for.
        compute: gives the array of one.
    """

    def __init__(
        self,
        weights: Collection[PrunableWeight],
        compute: Callable[[PrunableWeight], np.ndarray],
    ):
        self._weights = dict.fromkeys(weights)
        self._compute = compute

    def __getitem__(self, weight: PrunableWeight) -> np.ndarray:
        """The array of a weight."""
        if weight not in self._weights:
            raise KeyError(weight)
        return self._compute(weight)

    def __iter__(self) -> Iterator[PrunableWeight]:
        """The weights, in order."""
        return iter(self._weights)

    def __len__(self) -> int:
        """How many weights there are."""
        return len(self._weights)


@dataclass(frozen=True)
class Ranked:
    """Importances of weights.

    Attributes:
        importances: of each weight, float32 [groups, outputs, features], computed when asked for;
            see `pruning.criteria`.
        compensated: how the weights left make up for those that go; for second-order alone.
    """

    importances: Mapping[PrunableWeight, np.ndarray]
    compensated: Compensated = field(default_factory=Compensated)


def rank(
    criterion: Criterion,
    model: Model,
    weights: Iterable[PrunableWeight],
    context: Context,
    skip: Callable[[PrunableWeight, str], None],
    *,
    seed: int = 0,
    given: GivenImportances | None = None,
    gradients_of: GradientsOf = GradientsOf.OUTPUTS,
) -> Ranked:
    """How much each single weight matters.

    Args:
        criterion: not one of `CHANNEL_CRITERIA`.
        model: the weights' own; what is watched is what runs in it.
        weights: float.
        context: lends the activations.
        skip: told of each weight that cannot be ranked, and why; it is left out.
        seed: of random choices; every weight has its own.
        given: the user's importances, for the criterion of that name.
        gradients_of: what gradients are taken of, for criteria that go by them.
    """
    outermost = set(model.graph.nodes)
    fit: list[PrunableWeight] = []
    for weight in weights:
        reason = why_not_watched(weight, outermost) if criterion in _WATCHED else None
        if criterion in GRADIENT_CRITERIA:
            reason = why_no_gradient(weight)
        if reason is None:
            fit.append(weight)
        else:
            what = "gradients" if criterion in GRADIENT_CRITERIA else "inputs"
            skip(weight, f"{criterion.value} needs its {what}: {reason}")
    compensated = Compensated()
    facts: dict[PrunableWeight, Facts] = {}
    if criterion is Criterion.WANDA:
        facts = {
            weight: Facts(input_rms=rms) for weight, rms in input_rms(model, fit, context).items()
        }
    elif criterion is Criterion.SECOND_ORDER:
        compensated = compensate(model, fit, context, skip)
        facts = {weight: Facts(costs=costs) for weight, costs in compensated.costs.items()}
    elif criterion in GRADIENT_CRITERIA:
        found_slopes = slopes(criterion, model, fit, context, gradients_of, seed)
        facts = {weight: Facts(slopes=each) for weight, each in found_slopes.items()}
    elif criterion is Criterion.GIVEN and given is not None:
        for weight in fit:
            numbers = given.of(weight)
            if numbers is None:
                skip(weight, f"{given.path} does not name {weight.constant.name!r}")
            else:
                facts[weight] = Facts(given=numbers)
    else:
        facts = {weight: Facts(seed=(seed, _own(weight))) for weight in fit}
    known = [weight for weight in fit if weight in facts]
    found = Computed(known, lambda weight: importances(criterion, weight.view(), facts[weight]))
    return Ranked(found, compensated)


def masks(
    ranked: Mapping[PrunableWeight, np.ndarray],
    sparsity: float,
    scope: Scope,
    *,
    comparable: bool = True,
) -> dict[PrunableWeight, np.ndarray]:
    """Masks (bool, True = keep) that take the least important weights of each scope.

    A scope of many weights holds all their importances in memory, twice.

    Args:
        ranked: float32 importances of single weights or of blocks.
        sparsity: share that goes.
        scope: what loses this share together.
        comparable: where a scope holds several weights, importances are made comparable first, see
            `layer_adaptive`; false compares them as they are.
    """
    if scope is Scope.OUTPUT:
        return {weight: keep_most_of_rows(each, sparsity) for weight, each in ranked.items()}
    together: dict[object, list[PrunableWeight]] = defaultdict(list)
    for weight in ranked:
        together[_key(weight, scope)].append(weight)
    found: dict[PrunableWeight, np.ndarray] = {}
    for members in together.values():
        values: Sequence[np.ndarray] = [ranked[weight] for weight in members]
        if len(members) > 1 and comparable:
            values = [layer_adaptive(each) for each in values]
        found.update(zip(members, keep_most(values, sparsity), strict=True))
    return found


def skip_with(edit: Editor) -> Callable[[PrunableWeight, str], None]:
    """Records skips with an editor."""
    return lambda weight, reason: weight.skip(edit, reason)


def _key(weight: PrunableWeight, scope: Scope) -> object:
    return {Scope.NODE: weight, Scope.OP_TYPE: weight.node.op, Scope.GLOBAL: None}[scope]


def _own(weight: PrunableWeight) -> int:
    """A number for a weight that is the same in every run, and in a copy of the model."""
    return zlib.crc32(f"{weight.node.name}/{weight.readers[0][1]}".encode())
