"""Channels, heads, neurons and units set to zero, the least important ones first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

import numpy as np

from onnxcompress.channels.amount import TOO_MUCH, Amount, Chosen
from onnxcompress.channels.costs import Measure
from onnxcompress.channels.groups import Group, Groups, find_groups
from onnxcompress.channels.importance import removals
from onnxcompress.channels.mask import mask
from onnxcompress.channels.selection import Scope, width_step
from onnxcompress.data.recipe_paths import RecipePath
from onnxcompress.distillation.plan import GradientsOf
from onnxcompress.errors import PassError
from onnxcompress.ir.edit import Action, Change, Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.given import GivenImportances
from onnxcompress.masking.weights import prunable_weights
from onnxcompress.pass_base import Context, Pass
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.pruning.unit_removal import Removal

_DEEPEST = 0.75
"""Share of a group's units that may go before streams are cut instead."""

_COSTS = frozenset({Measure.MACS, Measure.PARAMETERS, Measure.BYTES})
"""What is told from shapes alone, whatever is cut."""

_STREAM = "its channels run through residual sums, and others go (see streams)"


@dataclass(frozen=True, kw_only=True)
class PruneChannels(Pass):
    """Conv(Relu(Conv(x, W, b)), V)  ->  the same with rows of W and b, and columns of V, zero.

    A unit is what must go together: a channel, a head, a neuron, a recurrent unit, whatever slices
    of whatever tensors it takes. Shapes stay; strip-pruned cuts what is zero, refit-weights between
    the two lets what stays make up for it.

    Attributes:
        criterion: what importance is judged by.
        amount: the share to take away, of what `target` counts.
        target: units of each group (or of all, see `scope`), or parameters, bytes or
            multiply-accumulates of the model, or the time that it takes here: one thread, one
            sample, measured some ten times.
        scope: `group` takes the same share of every group; `global` lets all groups compete.
        streams: whether to cut channels that run through residual sums, which are a part of many
            nodes. Left out, they go where a cost is to come down and the others are too few, or
            would lose more than three quarters.
        multiple: widths that are a multiple of this stay one: kernels are slow at others. Where
            that leaves too little to go, a half of it, and so on.
        importances: for `given`, an .npz of numbers by the names of stored tensors.
        gradients_of: for `gradient`, `taylor` and `fisher`: what gradients are taken of.
        seed: for `random`, and for what these draw.
    """

    name: ClassVar[str] = "prune-channels"
    prunes: ClassVar[bool] = True

    criterion: Criterion = Criterion.L2
    amount: float = 0.3
    target: Measure = Measure.UNITS
    scope: Scope = Scope.GROUP
    streams: bool | None = None
    multiple: int = 8
    importances: RecipePath | None = None
    gradients_of: GradientsOf = GradientsOf.OUTPUTS
    seed: int = 0

    def scaled(self, share: float) -> Self:
        """See `Pass.scaled`."""
        return self.everywhere(lambda each: replace(each, amount=each.amount * share))

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        self._check()
        groups = find_groups(model, context).followed(edit, self.at)
        for group in groups.groups:
            if any(self.at(node) != self for node in group.nodes):
                edit.skip(group.nodes[0], "a dependency group has one set of options: the default")
        streams, others = groups.split(lambda group: group.is_stream)
        steps = {each: width_step(each, self.multiple) for each in groups.groups}
        choose = partial(self._amount.choose, model, groups, steps=steps, context=context)
        found = self._ranked(model, edit, others, context)
        may = bool(streams.groups) and self.streams is None and self.target in _COSTS
        chosen = None if self.streams else choose(found, split_steps=not may)
        if chosen is None or (may and self._is_lopsided(chosen, others)):
            found = {**found, **self._ranked(model, edit, streams, context)}
            chosen = choose(found)
        else:
            for group in streams.groups:
                edit.skip(group.nodes[0], _STREAM)
        self._apply(model, edit, groups, chosen)
        for group in found:
            if chosen.kept[group.units].all():
                edit.skip(group.nodes[0], self._why_whole(group))

    def _is_lopsided(self, chosen: Chosen, groups: Groups) -> bool:
        """Whether a cost should come down by cutting streams too: groups alone lose too much."""
        lost = (float(np.mean(~chosen.kept[each.units[:, 0]])) for each in groups.groups)
        return not chosen.enough or (self.scope is Scope.GROUP and max(lost, default=0) > _DEEPEST)

    def _apply(self, model: Model, edit: Editor, groups: Groups, chosen: Chosen) -> None:
        """Masks, and tells what was reached.

        Raises:
            PassError: a cost was to come down, and nothing can go; says why.
        """
        asked = f"amount={self.amount} of the {self.target.value} {TOO_MUCH}"
        if chosen.kept.all():
            if not chosen.enough:
                raise PassError(f"{asked} (0.00){_main_reason(groups)}")
            return
        mask(edit, groups.space, ~chosen.kept)
        if edit.modified and chosen.left is not None:
            told = f"{self.target.value} x {chosen.left:.3f} once it is stripped"
            if not chosen.enough:
                told += f"; {asked} ({1 - chosen.left:.2f}), which went"
            edit.changes.append(Change(Action.CHANGED, model.graph.name, "graph", told))

    def _ranked(
        self, model: Model, edit: Editor, groups: Groups, context: Context
    ) -> Mapping[Group, Removal]:
        """In which order units of each group go; groups that have none are recorded."""
        given = None if self.importances is None else GivenImportances(self.importances)
        return removals(
            self.criterion,
            model,
            groups,
            context,
            lambda group, reason: edit.skip(group.nodes[0], reason),
            seed=self.seed,
            given=given,
            gradients_of=self.gradients_of,
            weights=[each for each, _ in prunable_weights(model, Editor(model), lambda _: self)],
            steps={each: width_step(each, self.multiple) for each in groups.groups},
        )

    def _why_whole(self, group: Group) -> str:
        if self.target is Measure.UNITS and self.amount * len(group) < 1:
            return f"amount={self.amount} is less than one of its {len(group)} units"
        return "its units matter more than those of other groups, or fewer were enough"

    @property
    def _amount(self) -> Amount:
        return Amount(self.amount, self.target, self.scope)

    def _check(self) -> None:
        """Raises PassError where options do not fit together."""
        if self.criterion is Criterion.THRESHOLD:
            raise PassError(
                "prune-channels takes an amount; criterion=threshold is for prune-weights"
            )
        if self.criterion is Criterion.GIVEN and self.importances is None:
            raise PassError("criterion=given needs importances=FILE.npz")
        if not 0 < self.amount < 1:
            raise PassError(f"amount={self.amount} is no share between 0 and 1")
        if self.multiple < 1:
            raise PassError(f"multiple={self.multiple} is less than 1")


def _main_reason(groups: Groups) -> str:
    """Why most channels stay."""
    widest = max(groups.skipped, key=lambda each: each.channels, default=None)
    if widest is None:
        return ": it has no channels that a weight makes"
    told = f"{widest.channels} channels of {widest.node.name!r} stay, for {widest.reason}"
    return f": {told} (`inspect --groups` lists all)"
