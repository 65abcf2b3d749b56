"""Channels, heads, neurons and units set to zero, the least important ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from onnxcompress.channels.costs import Costs, Measure
from onnxcompress.channels.groups import Group, Groups, find_groups
from onnxcompress.channels.importance import removals
from onnxcompress.channels.mask import mask
from onnxcompress.channels.selection import (
    Chunk,
    Ranking,
    Scope,
    down_to,
    in_order,
    width_step,
    without,
)
from onnxcompress.errors import PassError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.given import GivenImportances
from onnxcompress.masking.weights import prunable_weights
from onnxcompress.pass_base import Context, Pass
from onnxcompress.pruning.criteria import Criterion
from onnxcompress.pruning.unit_removal import Removal


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
            multiply-accumulates of the model.
        scope: `group` takes the same share of every group; `global` lets all groups compete.
        streams: also cut channels that run through residual sums; they are a part of many nodes.
        multiple: widths that are a multiple of this stay one: kernels are slow at others.
        importances: for `given`, an .npz of numbers by the names of stored tensors.
        seed: for `random`.
    """

    name: ClassVar[str] = "prune-channels"
    prunes: ClassVar[bool] = True

    criterion: Criterion = Criterion.L2
    amount: float = 0.3
    target: Measure = Measure.UNITS
    scope: Scope = Scope.GROUP
    streams: bool = False
    multiple: int = 8
    importances: str | None = None
    seed: int = 0

    def scaled(self, share: float) -> Self:
        """See `Pass.scaled`."""
        return self.everywhere(lambda each: replace(each, amount=each.amount * share))

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        self._check()
        groups = self._allowed(edit, find_groups(model, context))
        space = groups.space
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
            weights=[each for each, _ in prunable_weights(model, Editor(model), lambda _: self)],
            steps=steps,
        )
        costs = Costs(model, space)
        rankings = self._rankings(costs, groups, found, steps)
        kept = self._chosen(costs, list(in_order(rankings, self.scope)), space.size)
        for group in found:
            if kept[group.units].all():
                edit.skip(group.nodes[0], _why_whole(group, steps[group]))
        if not kept.all():
            mask(edit, space, ~kept)

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

    def _rankings(
        self,
        costs: Costs,
        groups: Groups,
        found: Mapping[Group, Removal],
        steps: Mapping[Group, int],
    ) -> list[Ranking]:
        measure = Measure.PARAMETERS if self.target is Measure.UNITS else self.target
        everything = np.ones(groups.space.size, bool)
        total = costs.of(measure, everything)
        rankings = []
        for group, each in found.items():
            without = everything.copy()
            without[group.units[0]] = False
            saving = (total - costs.of(measure, without)) / total
            rankings.append(Ranking(group, each, steps[group], saving))
        return rankings

    def _chosen(self, costs: Costs, chunks: Sequence[Chunk], size: int) -> np.ndarray:
        """What stays, bool by slot."""
        if self.target is not Measure.UNITS:
            limit = (1 - self.amount) * costs.of(self.target, np.ones(size, bool))
            kept = down_to(chunks, size, limit, lambda kept: costs.of(self.target, kept))
            if costs.of(self.target, kept) > limit:
                most = 1 - costs.of(self.target, kept) / costs.of(self.target, np.ones(size, bool))
                raise PassError(
                    f"amount={self.amount} of the {self.target.value} is more than can go "
                    f"({most:.2f}); ask for less, for streams=true, or for a smaller multiple"
                )
            return kept
        if self.scope is Scope.GROUP:
            within = [chunk for chunk in chunks if chunk.share <= self.amount + 1e-9]
            return without(within, size)
        groups = {chunk.group: len(chunk.group) for chunk in chunks}
        allowed = self.amount * sum(groups.values())
        gone = np.cumsum([len(chunk.units) for chunk in chunks])
        return without(chunks[: int(np.searchsorted(gone, allowed, side="right"))], size)


def _why_whole(group: Group, step: int) -> str:
    if len(group) <= step:
        return f"its {len(group)} units are not more than go at once ({step}, see multiple)"
    return "its units matter more than those of other groups, or the amount is less than a step"
