"""Channels, heads, neurons and units set to zero, the least important ones first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from onnxcompress.channels.amount import Amount
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
        streams: also cut channels that run through residual sums; they are a part of many nodes.
        multiple: widths that are a multiple of this stay one: kernels are slow at others.
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
    streams: bool = False
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
        groups = self._allowed(edit, find_groups(model, context))
        steps = {group: width_step(group, self.multiple) for group in groups.groups}
        given = None if self.importances is None else GivenImportances(self.importances)
        found = removals(
            self.criterion,
            model,
            groups,
            context,
            lambda group, reason: edit.skip(group.nodes[0], reason),
            seed=self.seed,
            given=given,
            gradients_of=self.gradients_of,
            weights=[each for each, _ in prunable_weights(model, Editor(model), lambda _: self)],
            steps=steps,
        )
        chosen = self._amount.choose(model, groups, found, steps, context)
        kept = chosen.kept
        if chosen.left is not None and chosen.left > 1 - self.amount + 1e-9:
            raise PassError(
                f"amount={self.amount} of the {self.target.value} is more than can go "
                f"({1 - chosen.left:.2f}); ask for less, for streams=true or a smaller multiple"
            )
        for group in found:
            if kept[group.units].all():
                edit.skip(group.nodes[0], _why_whole(group, steps[group]))
        if not kept.all():
            mask(edit, groups.space, ~kept)
        if edit.modified and chosen.left is not None:
            told = f"{self.target.value} x {chosen.left:.3f} once it is stripped"
            edit.changes.append(Change(Action.CHANGED, model.graph.name, "graph", told))

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

    def _allowed(self, edit: Editor, groups: Groups) -> Groups:
        """The groups that may lose units; the others are recorded."""
        allowed = []
        for group in groups.followed(edit, self.at).groups:
            if group.is_stream and not self.streams:
                edit.skip(group.nodes[0], "its channels run through residual sums (see streams)")
                continue
            if any(self.at(node) != self for node in group.nodes):
                edit.skip(group.nodes[0], "a dependency group has one set of options: the default")
            allowed.append(group)
        return groups.only(allowed)


def _why_whole(group: Group, step: int) -> str:
    if len(group) <= step:
        return f"its {len(group)} units are not more than go at once ({step}, see multiple)"
    return "its units matter more than those of other groups, or the amount is less than a step"
