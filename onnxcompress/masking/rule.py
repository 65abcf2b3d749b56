"""What masks of weights must obey: how much goes, of what, and in which units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxcompress.masking.ranking import Computed, Scope, masks
from onnxcompress.masking.weights import PrunableWeight
from onnxcompress.pruning.masks import Pattern, block_importances, keep_pattern, spread_blocks
from onnxcompress.pruning.second_order import Choice, in_pattern, least_important
from onnxcompress.quantization.compensation import BATCH


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """How importances become masks.

    Attributes:
        sparsity: share of weights that goes.
        scope: what loses this share together.
        comparable: see `ranking.masks`.
        pattern: what neighbouring input channels keep, whatever `sparsity` says; None for none.
        block_size: neighbouring weights of an output that stay or go together.
        threshold: all less important go, whatever `sparsity` says; None for no such limit.
    """

    sparsity: float
    scope: Scope
    comparable: bool
    pattern: Pattern | None
    block_size: int
    threshold: float | None

    def why_not(self, weight: PrunableWeight) -> str | None:
        """Why a weight cannot be masked like this; None if it can."""
        channels = weight.view().shape[2] // weight.kernel
        if self.pattern is not None and channels % self.pattern.size:
            return f"its {channels} input channels are no multiple of {self.pattern.size}"
        return None

    def masks(
        self, importances: Mapping[PrunableWeight, np.ndarray]
    ) -> Mapping[PrunableWeight, np.ndarray]:
        """Bool [groups, outputs, features] from float32 importances of that shape."""
        if self.pattern is not None:
            pattern = self.pattern
            return Computed(importances, lambda w: keep_pattern(importances[w], pattern, w.kernel))
        size = self.block_size
        blocks = Computed(importances, lambda w: block_importances(importances[w], size))
        keep: Mapping[PrunableWeight, np.ndarray]
        if self.threshold is not None:
            limit = self.threshold
            keep = Computed(importances, lambda w: blocks[w] >= limit)
        else:
            keep = masks(blocks, self.sparsity, self.scope, comparable=self.comparable)
        return Computed(keep, lambda w: spread_blocks(keep[w], size, w.view().shape[2]))

    def refinement(self, weight: PrunableWeight) -> Choice | None:
        """How the mask of a weight may be chosen anew while the rest makes up for what went."""
        if self.pattern is not None:
            fits = weight.kernel == 1 and BATCH % self.pattern.size == 0
            return in_pattern(self.pattern) if fits else None
        free = self.block_size == 1 and self.scope is not Scope.OUTPUT
        return least_important if free and self.threshold is None else None
