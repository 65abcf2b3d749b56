"""Weights taken where the others can make up for them, and the others that do.

Source: Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
One-Shot", 2023 (arXiv 2301.00774), algorithm 1: every batch of features loses the same share. How
large it is for each group a mask from outside says, so that weights of any scope can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnxcompress.pruning.criteria import LEAST
from onnxcompress.pruning.masks import Pattern, keep_most, keep_pattern
from onnxcompress.quantization.compensation import BATCH, Compensation, settle

Choice = Callable[[np.ndarray, int], np.ndarray]
"""A batch's mask from its importances, float32 [outputs, features], and how many are to go."""


def least_important(ranked: np.ndarray, gone: int) -> np.ndarray:
    """Any weights of the batch go."""
    return keep_most([ranked], gone / ranked.size)[0]


def in_pattern(pattern: Pattern) -> Choice:
    """The choice of a pattern over neighbouring features; its size must divide `BATCH`."""
    return lambda ranked, _: keep_pattern(ranked[None], pattern)[0]


def prune_with_correction(
    weights: np.ndarray,
    keep: np.ndarray,
    compensations: Sequence[Compensation],
    choice: Choice | None,
) -> np.ndarray:
    """Zeroes weights, and moves those after each so that the outputs change least.

    Args:
        weights: finite float [groups, outputs, features].
        keep: bool, shape of `weights`.
        compensations: one for each group, with features in the order they have.
        choice: which weights of a batch of features go, chosen when those before it have been made
            up for; as many in all as `keep` takes. None for the very ones that `keep` says.

    Returns:
        float32, shape of `weights`. Weights that were zero stay so.
    """
    pruned = np.empty(weights.shape, np.float32)
    for group, each in enumerate(compensations):
        left = np.array(weights[group].T, np.float32, order="C")
        mask = keep[group].T & (left != 0)
        _prune(left, mask, each.factor, choice)
        pruned[group] = left.T
    return pruned


def _prune(left: np.ndarray, mask: np.ndarray, factor: np.ndarray, choice: Choice | None) -> None:
    """Prunes `left` [features, outputs], which it writes to and `mask`, which keeps no zeros."""
    present = left != 0
    # The diagonal tells what is left to make up for a weight when its turn comes.
    costs = 1 / np.square(np.diagonal(factor))
    share = 1 - np.count_nonzero(mask) / max(int(np.count_nonzero(present)), 1)

    def value(k: int, row: np.ndarray) -> np.ndarray:
        if choice is not None and k % BATCH == 0:
            batch = slice(k, k + BATCH)
            seen, there = np.count_nonzero(present[:k]), np.count_nonzero(present[batch])
            taken = round(share * (seen + there)) - round(share * seen)
            ranked = np.maximum(np.square(left[batch]) * costs[batch, None], LEAST)
            ranked *= present[batch]
            mask[batch] = choice(ranked.T, taken + ranked.size - there).T & present[batch]
        return np.where(mask[k], row, 0)

    settle(left, factor, value)
