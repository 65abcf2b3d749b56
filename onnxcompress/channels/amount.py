"""How much is to go, in whatever it is counted, and which units that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxcompress.channels.costs import Costs, Measure
from onnxcompress.channels.groups import Group, Groups
from onnxcompress.channels.selection import (
    Chunk,
    Ranking,
    Scope,
    down_to,
    fewest,
    finer,
    in_order,
    without,
)
from onnxcompress.channels.stopwatch import Stopwatch
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Context
from onnxcompress.pruning.unit_removal import Removal

_SAVED: Mapping[Measure, Measure] = {
    Measure.UNITS: Measure.PARAMETERS,
    Measure.LATENCY: Measure.MACS,
}
"""What stands for a target when units of different groups are weighed against each other."""

TOO_MUCH = "is more than can go"
"""Told where an amount cannot be reached, with the share that can."""


@dataclass(frozen=True)
class Chosen:
    """What stays.

    Attributes:
        kept: bool by slot.
        left: what that costs, as a share of the whole model; None where units are counted.
        enough: whether that is as little as was asked for.
    """

    kept: np.ndarray
    left: float | None
    enough: bool = True


@dataclass(frozen=True)
class Amount:
    """A share of a model that is to go.

    Attributes:
        share: from 0 to 1.
        target: what it is a share of.
        scope: what competes.
    """

    share: float
    target: Measure
    scope: Scope

    def choose(
        self,
        model: Model,
        groups: Groups,
        found: Mapping[Group, Removal],
        steps: Mapping[Group, int],
        context: Context,
        *,
        start: np.ndarray | None = None,
        split_steps: bool = True,
    ) -> Chosen:
        """Takes the units that matter least, as few as the amount asks for, or all there are.

        Args:
            model: counted whole, whatever is zero in it.
            groups: of the model.
            found: in which order units of a group go; those not named stay.
            steps: units that go at once, by group.
            context: measures, where the target is time.
            start: bool by slot; what is gone whatever is chosen is False.
            split_steps: take a half of them, and so on, where whole ones are not enough.
        """
        everything = np.ones(groups.space.size, bool)
        start = everything if start is None else start
        rankings = self._rankings(Costs(model, groups.space), found, steps, everything)
        if self.target is Measure.UNITS:
            return Chosen(without(self._units(rankings, split=split_steps), start), None)
        if self.target is Measure.LATENCY:
            chunks = list(in_order(rankings, self.scope))
            timed = Stopwatch(model, context).of
            kept = without(chunks[: fewest(chunks, start, 1 - self.share, timed)], start)
            left = timed(kept)
            return Chosen(kept, left, left <= 1 - self.share)
        cost = partial(Costs(model, groups.space).of, self.target)
        total = cost(everything)
        limit = (1 - self.share) * total
        while True:
            kept = down_to(list(in_order(rankings, self.scope)), start, limit, cost)
            left = cost(kept)
            if left <= limit or not split_steps or all(each.step == 1 for each in rankings):
                break
            rankings = [replace(each, step=max(each.step // 2, 1)) for each in rankings]
        # Of nothing, nothing can go.
        return Chosen(kept, left / total if total else 1.0, bool(total) and left <= limit)

    def _rankings(
        self,
        costs: Costs,
        found: Mapping[Group, Removal],
        steps: Mapping[Group, int],
        everything: np.ndarray,
    ) -> list[Ranking]:
        measure = _SAVED.get(self.target, self.target)
        total = costs.of(measure, everything)
        rankings = []
        for group, each in found.items():
            saving = costs.saved(measure, group.units[0]) / max(total, 1)
            rankings.append(Ranking(group, each, steps[group], saving))
        return rankings

    def _units(self, rankings: Sequence[Ranking], *, split: bool) -> Sequence[Chunk]:
        allowed = self.share * sum(len(each.group) for each in rankings)
        if split:
            own = self.scope is Scope.GROUP
            most = [self.share * len(each.group) if own else allowed for each in rankings]
            rankings = [finer(each, units) for each, units in zip(rankings, most, strict=True)]
        chunks = list(in_order(rankings, self.scope))
        if self.scope is Scope.GROUP:
            return [chunk for chunk in chunks if chunk.share <= self.share + 1e-9]
        gone = np.cumsum([len(chunk.units) for chunk in chunks])
        return chunks[: int(np.searchsorted(gone, allowed, side="right"))]
