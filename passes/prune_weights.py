"""Zeroes the weights that matter least; tensors keep their shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from onnxcompress.data.recipe_paths import RecipePath
from onnxcompress.distillation.plan import GradientsOf
from onnxcompress.errors import RecipeError
from onnxcompress.ir.edit import Editor, Skip
from onnxcompress.ir.model import Model
from onnxcompress.masking.correction import corrected
from onnxcompress.masking.given import GivenImportances
from onnxcompress.masking.ranking import Scope, rank, skip_with
from onnxcompress.masking.rule import MaskRule
from onnxcompress.masking.weights import ChangedWeight, PrunableWeight, prunable_weights
from onnxcompress.pass_base import Context, Pass
from onnxcompress.pruning.criteria import CHANNEL_CRITERIA, Criterion
from onnxcompress.pruning.masks import Pattern

_NOTHING = "it is as sparse as asked for already"


@dataclass(frozen=True, kw_only=True)
class PruneWeights(Pass):
    """MatMul(x, W)  ->  MatMul(x, W * mask), the least important weights zero.

    Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN; no bias and no table. Zeros save bytes
    (see store-sparse), not time: onnxruntime multiplies by them. Weights that are zero already
    count, and go first. A weight that several nodes read is pruned once, for all.

    Attributes:
        criterion: how importance is judged. `wanda` and `second-order` need calibration data;
            `second-order` also moves the weights that stay. `geometric-median` and `batchnorm` rank
            channels: see prune-channels.
        sparsity: share of weights that goes, from 0 to 1.
        n_m: "2:4" keeps the 2 most important of each 4 neighbouring input channels, whatever
            `sparsity` says; empty for no pattern.
        block_size: this many neighbouring weights of an output stay or go together, by their mean
            importance; 1 for single weights.
        scope: what loses that share together: the weights of each output, of each node, of all
            nodes of an operator, or of the model.
        layer_adaptive: where several nodes lose a share together, importances count relative to
            those of the same node that are no smaller; false compares them as they are, and may
            leave a node next to nothing.
        threshold: for the criterion of that name: all weights of smaller magnitude go, however
            many. None finds it from `sparsity`.
        importances: for the criterion `given`: an .npz below the current folder with, by the name
            of each stored tensor, an array of its shape or one factor of its magnitudes.
        gradients_of: for `gradient`, `taylor` and `fisher`: what gradients are taken of.
        seed: of the criterion `random`, and of what these draw.
    """

    name: ClassVar[str] = "prune-weights"
    prunes: ClassVar[bool] = True

    criterion: Criterion = Criterion.L2
    sparsity: float = 0.5
    n_m: str = ""
    block_size: int = 1
    scope: Scope = Scope.NODE
    layer_adaptive: bool = True
    threshold: float | None = None
    importances: RecipePath = ""
    gradients_of: GradientsOf = GradientsOf.OUTPUTS
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses options that do not go together."""
        fault = self._fault()
        if fault is not None:
            raise RecipeError(f"pass {self.name!r}: {fault}")

    def _fault(self) -> str | None:
        by_threshold = self.criterion is Criterion.THRESHOLD
        given = self.criterion is Criterion.GIVEN
        if self.criterion in CHANNEL_CRITERIA:
            return f"criterion {self.criterion.value} ranks channels; use it in prune-channels"
        if not 0 <= self.sparsity <= 1:
            return f"sparsity must be from 0 to 1, not {self.sparsity}"
        if self.block_size < 1 or self.seed < 0:
            return "block_size must be at least 1, and seed at least 0"
        if self.threshold is not None and not (by_threshold and 0 <= self.threshold < np.inf):
            return "threshold takes a number from 0 up, with criterion threshold alone"
        if given != bool(self.importances):
            return "importances, the path of an .npz file, goes with criterion given"
        if self.n_m and (self.block_size > 1 or self.threshold is not None):
            return "n_m goes with neither block_size nor threshold"
        try:
            self._rule()
        except ValueError as fault:
            return f"n_m {fault}"
        return None

    def scaled(self, share: float) -> Self | None:
        """See `Pass.scaled`; a pattern goes all at once."""
        return None if self.n_m else self.everywhere(lambda each: each._part(share))

    def _part(self, share: float) -> Self:
        threshold = None if self.threshold is None else self.threshold * share
        return replace(self, sparsity=self.sparsity * share, threshold=threshold)

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        by_options: dict[PruneWeights, list[PrunableWeight]] = defaultdict(list)
        for weight, options in prunable_weights(model, edit, self.at):
            by_options[options].append(weight)
        changed: list[ChangedWeight] = []
        for options, weights in by_options.items():
            for weight, values in options._pruned(model, edit, weights, context):
                change = weight.changed(edit, values)
                if change is None:
                    weight.skip(edit, _NOTHING)
                else:
                    changed.append(change)
        for change in changed:  # written last: until then the model runs as it was
            change.apply(edit)

    def _pruned(
        self, model: Model, edit: Editor, weights: list[PrunableWeight], context: Context
    ) -> Iterator[tuple[PrunableWeight, np.ndarray]]:
        given = GivenImportances(self.importances) if self.importances else None
        if given is not None:
            stored = {constant.name for constant in model.constants()}
            for name in given.members.keys() - stored:
                edit.skips.append(Skip(name, "importances", "names no stored tensor"))
        rule, fit = self._rule(), []
        for weight in weights:
            reason = rule.why_not(weight)
            if reason is None:
                fit.append(weight)
            else:
                weight.skip(edit, reason)
        skip = skip_with(edit)
        ranked = rank(
            self.criterion,
            model,
            fit,
            context,
            skip,
            seed=self.seed,
            given=given,
            gradients_of=self.gradients_of,
        )
        keep = rule.masks(ranked.importances)
        if self.criterion is Criterion.SECOND_ORDER:
            yield from corrected(model, keep, ranked.compensated, rule.refinement, context)
        else:
            yield from ((weight, np.where(mask, weight.view(), 0)) for weight, mask in keep.items())

    def _rule(self) -> MaskRule:
        return MaskRule(
            sparsity=self.sparsity,
            scope=self.scope,
            comparable=self.layer_adaptive,
            pattern=Pattern.parse(self.n_m) if self.n_m else None,
            block_size=self.block_size,
            threshold=self.threshold,
        )
