"""Integers for a weight, column after column, each making up for the error of those before it.

Source: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022 (arXiv 2210.17323): algorithm 1, with its lazy batches and Cholesky form;
columns in the order of falling diagonal follow the authors' later code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BATCH = 128
"""Features between two updates of all that follow."""

_AT_ONCE = 1024
"""Outputs handled together: their share of a batch stays in a core's cache."""


_SMALL = 32
"""Triangular matrices of twice this are inverted as a whole."""


class SingularMomentsError(ValueError):
    """The moments of the inputs, damped, are not positive definite."""


@dataclass(frozen=True)
class Compensation:
    """How the weights of an output make up for the error of one another.

    Attributes:
        order: int [features]: which is rounded first, which next.
        factor: float32 [features, features], in that order: U, upper triangular, with U^T U the
            inverse of the damped moments.
    """

    order: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, moments: np.ndarray, *, damping: float, by_importance: bool) -> Compensation:
        """From what the inputs are like.

        Args:
            moments: float64 [features, features], second moments or covariance of the inputs.
            damping: share of the mean variance that is added to each input's own, > 0.
            by_importance: features of large variance first, while there are others left to make up
                for them; else in the order they have.

        Raises:
            SingularMomentsError: no input was ever other than zero, or moments are not finite.
        """
        variance = np.diagonal(moments)
        if not np.isfinite(moments).all() or variance.mean() <= 0:
            raise SingularMomentsError("its inputs are zero, or not finite, throughout")
        order = np.argsort(-variance, kind="stable") if by_importance else np.arange(len(moments))
        damped = moments[np.ix_(order, order)] + damping * variance.mean() * np.eye(len(moments))
        try:
            # With J turning the order around, J H J = L L^T gives H^-1 = U^T U for U = J L^-1 J.
            lower = np.linalg.cholesky(damped[::-1, ::-1])
        except np.linalg.LinAlgError as fault:
            raise SingularMomentsError("the moments of its inputs have no inverse") from fault
        factor = np.ascontiguousarray(_inverse(lower)[::-1, ::-1], np.float32)
        return cls(order, factor)

    @property
    def costs(self) -> np.ndarray:
        """float32 [features]: what an error of each weight costs after all others made up for it.

        In the order that the features have in the weight: one over the inverse's diagonal.
        """
        costs = np.empty(len(self.order), np.float32)
        costs[self.order] = 1 / np.square(self.factor).sum(axis=0)
        return costs


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


def _inverse(lower: np.ndarray) -> np.ndarray:
    """The inverse of a lower triangular matrix; by halves, which is products for the most part."""
    half = len(lower) // 2
    if half < _SMALL:
        return np.asarray(np.linalg.inv(lower))
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = _inverse(lower[:half, :half])
    inverse[half:, half:] = _inverse(lower[half:, half:])
    inverse[half:, :half] = -inverse[half:, half:] @ lower[half:, :half] @ inverse[:half, :half]
    return inverse


def _levels(
    weights: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    factor: np.ndarray,
    limits: tuple[int, int],
) -> np.ndarray:
    """Rounds `weights` [features, outputs], which it writes to."""
    levels = np.empty_like(weights)
    features = len(weights)
    errors = np.empty((_BATCH, weights.shape[1]), np.float32)
    for first in range(0, features, _BATCH):
        last = min(first + _BATCH, features)
        for k in range(first, last):
            steps = np.rint(weights[k] / scale[k]) + zero_point[k]
            levels[k] = np.clip(steps, *limits)
            real = (levels[k] - zero_point[k]) * scale[k]
            error = (weights[k] - real) / factor[k, k]
            weights[k + 1 : last] -= factor[k, k + 1 : last, None] * error
            errors[k - first] = error
        weights[last:] -= factor[first:last, last:].T @ errors[: last - first]
    return levels
