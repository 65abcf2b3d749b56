"""Brings back pruned weights that matter most, with the values they had."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from onnxcompress.errors import RecipeError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.masking.ranking import Scope, masks, rank, skip_with
from onnxcompress.masking.weights import ChangedWeight, PrunableWeight, prunable_weights
from onnxcompress.pass_base import Context, Pass
from onnxcompress.pruning.criteria import CHANNEL_CRITERIA, Criterion
from onnxcompress.pruning.masks import layer_adaptive

_NO_REFERENCE = (
    "no model from before pruning is known; put regrow-weights behind a pruning pass in one recipe"
)
_REFUSED = CHANNEL_CRITERIA | {Criterion.GIVEN, Criterion.THRESHOLD}


@dataclass(frozen=True, kw_only=True)
class RegrowWeights(Pass):
    """MatMul(x, W * mask)  ->  MatMul(x, W * larger mask), until fewer weights are zero.

    To run after a pruning pass in one recipe. The weights that were taken come back as they were
    before it, the most important first; those that are left stay as they are. Nodes are matched by
    name, and weights by shape.

    Attributes:
        criterion: how the importance of the weights as they were is judged, see prune-weights.
        sparsity: share of zeros that is left; where there are fewer, nothing is done.
        scope: what reaches that share together, see prune-weights.
        seed: of the criterion `random`.
    """

    name: ClassVar[str] = "regrow-weights"

    criterion: Criterion = Criterion.L2
    sparsity: float = 0.5
    scope: Scope = Scope.NODE
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses options that mean nothing here."""
        if self.criterion in _REFUSED:
            reason = f"criterion {self.criterion.value} does not rank single weights by itself"
        elif not 0 <= self.sparsity <= 1 or self.seed < 0:
            reason = "sparsity must be from 0 to 1, and seed at least 0"
        else:
            return
        raise RecipeError(f"pass {self.name!r}: {reason}")

    def scaled(self, share: float) -> Self:
        """See `Pass.scaled`."""
        return self.everywhere(lambda each: replace(each, sparsity=each.sparsity * share))

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        original = context.unpruned_model
        places = {} if original is None else _places(original)
        pairs: dict[RegrowWeights, dict[PrunableWeight, PrunableWeight]] = defaultdict(dict)
        for weight, options in prunable_weights(model, edit, self.at):
            before = places.get(_place(weight))
            if original is None:
                weight.skip(edit, _NO_REFERENCE)
            elif before is None or before.constant.shape != weight.constant.shape:
                weight.skip(edit, "the model from before pruning has no such weight of that shape")
            else:
                pairs[options][weight] = before
        changed: list[ChangedWeight] = []
        for options, same in pairs.items():
            assert original is not None
            for weight, values in options._regrown(original, same, edit, context).items():
                change = weight.changed(edit, values)
                if change is None:
                    weight.skip(edit, "no weight that was taken has to come back")
                else:
                    changed.append(change)
        for change in changed:
            change.apply(edit)

    def _regrown(
        self,
        original: Model,
        pairs: Mapping[PrunableWeight, PrunableWeight],
        edit: Editor,
        context: Context,
    ) -> dict[PrunableWeight, np.ndarray]:
        """The values of each weight, float [groups, outputs, features]."""
        now = {before: weight for weight, before in pairs.items()}
        skip = skip_with(edit)  # readers have the names they had
        ranked = rank(self.criterion, original, now, context, skip, seed=self.seed)
        # What is there now stays, so it comes before all that is not.
        importances = {
            now[before]: np.where(now[before].view() != 0, np.float32(np.inf), layer_adaptive(each))
            for before, each in ranked.importances.items()
        }
        keep = masks(importances, self.sparsity, self.scope, comparable=False)
        return {
            weight: np.where((weight.view() == 0) & mask, pairs[weight].view(), weight.view())
            for weight, mask in keep.items()
        }


def _place(weight: PrunableWeight) -> tuple[str, int]:
    node, index = weight.readers[0]
    return node.name, index


def _places(model: Model) -> dict[tuple[str, int], PrunableWeight]:
    """Every weight of a model by the place where it is read, overrides aside."""
    anything = RegrowWeights()
    return {
        (node.name, index): weight
        for weight, _ in prunable_weights(model, Editor(model), anything.at)
        for node, index in weight.readers
    }
