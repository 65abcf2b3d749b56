"""Brings back pruned channels, heads, neurons and units that matter most, as they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from onnxcompress.channels.amount import Amount
from onnxcompress.channels.costs import Measure
from onnxcompress.channels.groups import Group, Groups, find_groups
from onnxcompress.channels.importance import removals
from onnxcompress.channels.regrowth import Masked
from onnxcompress.channels.selection import Scope, width_step
from onnxcompress.data.recipe_paths import RecipePath
from onnxcompress.errors import RecipeError
from onnxcompress.ir.edit import Action, Change, Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.given import GivenImportances
from onnxcompress.masking.weights import prunable_weights
from onnxcompress.pass_base import Context, Pass
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.pruning.unit_removal import Removal

_NO_REFERENCE = (
    "no model from before pruning is known; put regrow-channels behind a pruning pass in one recipe"
)
_OTHER_SHAPES = "the model from before pruning has other shapes: regrow before strip-pruned"


@dataclass(frozen=True, kw_only=True)
class RegrowChannels(Pass):
    """Conv(Relu(Conv(x, W * mask)), V * mask)  ->  the same with a larger mask, by whole units.

    To run after prune-channels and before strip-pruned, in one recipe. Of the units that were
    taken the most important come back with all that they held, until no more is gone than the
    amount allows; what the others hold stays as it is.

    Attributes:
        criterion: how the importance of units in the model as it was is judged, see prune-channels.
        amount: the share that stays away, of what `target` counts; where less is gone, nothing is
            done.
        target: see prune-channels.
        scope: see prune-channels.
        multiple: see prune-channels.
        importances: see prune-channels.
        seed: see prune-channels.
    """

    name: ClassVar[str] = "regrow-channels"

    criterion: Criterion = Criterion.L2
    amount: float = 0.2
    target: Measure = Measure.UNITS
    scope: Scope = Scope.GROUP
    multiple: int = 8
    importances: RecipePath | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses options that mean nothing here."""
        if self.criterion is Criterion.THRESHOLD:
            reason = "criterion threshold does not rank units"
        elif self.criterion is Criterion.GIVEN and self.importances is None:
            reason = "criterion given needs importances=FILE.npz"
        elif not 0 <= self.amount < 1 or self.multiple < 1 or self.seed < 0:
            reason = "amount must be from 0 to below 1, multiple at least 1, and seed at least 0"
        else:
            return
        raise RecipeError(f"pass {self.name!r}: {reason}")

    def scaled(self, share: float) -> Self:
        """See `Pass.scaled`."""
        return self.everywhere(lambda each: replace(each, amount=each.amount * share))

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        groups = find_groups(model, context).followed(edit, self.at)
        original = context.unpruned_model
        if original is None:
            for group in groups.groups:
                edit.skip(group.nodes[0], _NO_REFERENCE)
            return
        before = find_groups(original, context)
        taken = self._taken(edit, groups, before)
        if not taken:
            return
        start = np.ones(groups.space.size, bool)  # of groups without a rank, nothing comes back
        found = self._ranked(edit, original, before.only(list(taken)), context)
        for group, gone in taken.items():
            if group not in found:
                start[group.units[gone]] = False
        restricted = {group: _only(found[group], taken[group]) for group in found}
        steps = {group: width_step(group, self.multiple) for group in restricted}
        amount = Amount(self.amount, self.target, self.scope)
        chosen = amount.choose(
            original, before, restricted, steps, context, start=start, split_steps=False
        )
        back = np.zeros_like(start)
        for group in restricted:
            units = group.units[taken[group]]
            back[units] = chosen.kept[units]
            if not back[units].any():
                edit.skip(group.nodes[0], "no unit that was taken has to come back")
        if back.any():
            Masked(groups.space, before.space).restore(edit, back, ~chosen.kept)
            if chosen.left is not None:
                told = f"{self.target.value} x {chosen.left:.3f} once it is stripped"
                edit.changes.append(Change(Action.CHANGED, model.graph.name, "graph", told))

    def _taken(self, edit: Editor, groups: Groups, before: Groups) -> dict[Group, np.ndarray]:
        """By group of the model as it was, which units a mask took: bool [units]."""
        known = {group.units.tobytes(): group for group in before.groups}
        same = groups.space.size == before.space.size
        masked = Masked(groups.space, before.space) if same else None
        taken: dict[Group, np.ndarray] = {}
        for group in groups.groups:
            found = known.get(group.units.tobytes())
            if masked is None or found is None:
                edit.skip(group.nodes[0], _OTHER_SHAPES)
            elif not (gone := masked.gone(group)).any():
                edit.skip(group.nodes[0], "none of its units was taken")
            else:
                taken[found] = gone
        return taken

    def _ranked(
        self, edit: Editor, original: Model, groups: Groups, context: Context
    ) -> dict[Group, Removal]:
        weights = [each for each, _ in prunable_weights(original, Editor(original), lambda _: self)]
        given = None if self.importances is None else GivenImportances(self.importances)
        found = removals(
            self.criterion,
            original,
            groups,
            context,
            lambda group, reason: edit.skip(group.nodes[0], reason),
            seed=self.seed,
            given=given,
            weights=weights,
            steps={group: width_step(group, self.multiple) for group in groups.groups},
        )
        return dict(found)


def _only(removal: Removal, units: np.ndarray) -> Removal:
    """The order of some units among themselves (bool [units]), the others left out."""
    chosen = units[removal.order]
    return Removal(removal.order[chosen], removal.costs[chosen])
