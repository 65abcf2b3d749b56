"""Integers for a weight, column after column, each making up for the error of those before it.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022 (arXiv 2210.17323): algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcompress.quantization.compensation import Compensation, settle

_AT_ONCE = 1024
"""Outputs handled together: their share of a batch stays in a core's cache."""


def gptq_levels(
    weights: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    compensations: Sequence[Compensation],
    limits: tuple[int, int],
) -> np.ndarray:
    """Integers whose outputs come near those of the weights.

    Features are rounded one after another; after each, the weights that are still to come move so
    that the outputs change least. `real = (level - zero_point) * scale`.

    Args:
        weights: float [groups, outputs, features].
        scale: float, > 0, broadcasts with `weights`.
        zero_point: float, whole numbers, broadcasts with `weights`.
        compensations: one for each group.
        limits: the smallest and the largest integer.

    Returns:
        float32, whole numbers, shape of `weights`.
    """
    levels = np.empty(weights.shape, np.float32)
    scale = np.broadcast_to(scale, weights.shape)
    zero_point = np.broadcast_to(zero_point, weights.shape)
    for group, each in enumerate(compensations):
        for first in range(0, weights.shape[1], _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            given, steps, zeros = (
                np.ascontiguousarray(array[group, part].T[each.order], np.float32)
                for array in (weights, scale, zero_point)
            )
            found = np.empty_like(given)
            found[each.order] = _levels(given, steps, zeros, each.factor, limits)
            levels[group, part] = found.T
    return levels


def _levels(
    weights: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    factor: np.ndarray,
    limits: tuple[int, int],
) -> np.ndarray:
    """Rounds `weights` [features, outputs], which it writes to."""
    levels = np.empty_like(weights)

    def real(k: int, row: np.ndarray) -> np.ndarray:
        steps = np.rint(row / scale[k]) + zero_point[k]
        levels[k] = np.clip(steps, *limits)
        value: np.ndarray = (levels[k] - zero_point[k]) * scale[k]
        return value

    settle(weights, factor, real)
    return levels
