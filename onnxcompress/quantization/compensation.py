"""Weights changed one feature after another, those to come making up for the error of each.

Source: Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon",
1993, for what makes up for an error; Frantar et al., "GPTQ", 2022 (arXiv 2210.17323), for doing so
in one order for all outputs, with lazy batches and in Cholesky form; columns in the order of
falling diagonal follow the authors' later code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BATCH = 128
"""Features between two updates of all that follow."""

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


def settle(
    weights: np.ndarray, factor: np.ndarray, value: Callable[[int, np.ndarray], np.ndarray]
) -> None:
    """Gives one feature after another its value; those to come move so that outputs change least.

    Args:
        weights: float32 [features, outputs], written to; in the order of the compensation.
        factor: see `Compensation`.
        value: for a feature's number and its weights as they are by then, float32 [outputs], what
            they are to be. Features up to the next multiple of `BATCH` are up to date then too.
    """
    features = len(weights)
    errors = np.empty((BATCH, weights.shape[1]), np.float32)
    for first in range(0, features, BATCH):
        last = min(first + BATCH, features)
        for k in range(first, last):
            settled = value(k, weights[k])
            error = (weights[k] - settled) / factor[k, k]
            weights[k] = settled
            weights[k + 1 : last] -= factor[k, k + 1 : last, None] * error
            errors[k - first] = error
        weights[last:] -= factor[first:last, last:].T @ errors[: last - first]


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
