"""Taking inputs away from products while the inputs that stay make up for them.

Source: Hassibi and Stork, "Optimal Brain Surgeon", 1993; for whole units, greedily, Kurtic et al.,
"ZipLM: Inference-Aware Structured Pruning of Language Models", 2023 (arXiv 2302.04089). That the
error is measured on other rows than those that made up for it is ours: with as many features as a
convolution has, errors on the rows of the fit are far too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DAMPING = 0.01
"""Share of the mean variance that is added to each input's own."""


_DROPPED = 0.125
"""Share of the columns of a product that may be gone before they are dropped."""


@dataclass(frozen=True)
class Product:
    """A product whose inputs belong to units.

    Attributes:
        weight: float [outputs, features].
        fitted: float [features, features], covariance of the inputs that others make up by.
        held_out: likewise of other rows, on which errors are measured.
        features: int [units, features per unit], the features of each unit.
        variance: of what the product adds to, summed over outputs: errors are shares of it.
    """

    weight: np.ndarray
    fitted: np.ndarray
    held_out: np.ndarray
    features: np.ndarray
    variance: float


@dataclass(frozen=True)
class Removal:
    """Units in the order in which they should go.

    Attributes:
        order: int [units].
        costs: float64 [units], in that order: what taking each adds to the error; never falls.
    """

    order: np.ndarray
    costs: np.ndarray

    @classmethod
    def by_score(cls, scores: np.ndarray, *, comparable: bool = False) -> Removal:
        """The lowest score first; costs are the scores.

        Args:
            scores: float [units], not negative.
            comparable: with those of other units that compete; else costs are shares of their sum.
        """
        order = np.argsort(scores, kind="stable")
        total = 1.0 if comparable else max(float(scores.sum()), 1e-30)
        return cls(order, scores[order] / total)


def remove_greedily(products: Sequence[Product], at_once: int) -> Removal:
    """Always the units whose loss the others can best make up for.

    Args:
        products: all that read these units.
        at_once: units taken between two updates of the rest.
    """
    states = [_State(product) for product in products]
    left = np.arange(len(products[0].features))
    taken: list[np.ndarray] = []
    errors: list[float] = []
    while len(left):
        now = np.sum([state.losses(left) for state in states], axis=0)
        chosen = np.argsort(now, kind="stable")[: _portion(len(left), at_once)]
        taken.append(left[chosen])
        errors.append(_take(states, left[chosen], last=len(chosen) == len(left)))
        left = np.delete(left, chosen)
    return _removal(taken, errors)


def remove_in_order(products: Sequence[Product], order: np.ndarray, at_once: int) -> Removal:
    """As told, with what it costs; see `remove_greedily`."""
    states = [_State(product) for product in products]
    taken: list[np.ndarray] = []
    errors: list[float] = []
    while len(order):
        count = _portion(len(order), at_once)
        taken.append(order[:count])
        errors.append(_take(states, order[:count], last=count == len(order)))
        order = order[count:]
    return _removal(taken, errors)


def contributions(products: Sequence[Product]) -> np.ndarray:
    """What each unit contributes to the variance of the results: float64 [units].

    The variance of its features times their squared weights, as if units did not go together.
    """
    return np.asarray(np.sum([_contribution(product) for product in products], axis=0))


def _contribution(product: Product) -> np.ndarray:
    each = np.square(product.weight).sum(axis=0) * np.diagonal(product.fitted)
    return np.asarray(each[product.features].sum(axis=1) / product.variance)


def _portion(left: int, at_once: int) -> int:
    """What goes next: as much as leaves a multiple of what goes at once."""
    return left % at_once or at_once


def _take(states: Sequence[_State], units: np.ndarray, *, last: bool) -> float:
    """The error of all products once units are gone; nothing is left to make up for the last."""
    for state in states:
        state.remove(units, last=last)
    return sum(state.error() for state in states)


def _removal(taken: Sequence[np.ndarray], errors: Sequence[float]) -> Removal:
    steps = np.diff(errors, prepend=0.0) / [len(each) for each in taken]
    rising = np.maximum.accumulate(np.maximum(steps, 0))
    costs = np.repeat(rising, [len(each) for each in taken])
    return Removal(np.concatenate(taken), costs)


class _State:
    """A product while its inputs go; the columns of those that went are dropped now and then."""

    def __init__(self, product: Product):
        fitted = np.asarray(product.fitted, np.float64)
        variance = max(float(np.diagonal(fitted).mean()), 1e-30)
        self._product = product
        self._original = np.asarray(product.weight, np.float64)
        self._squared = 0.0
        self._columns = np.arange(len(fitted))  # the feature of each column that is left
        self._place = np.arange(len(fitted))  # the column of each feature that is left
        self._went = np.zeros(len(fitted), bool)  # by column
        self._weight = self._original.copy()
        self._inverse = np.linalg.inv(fitted + _DAMPING * variance * np.eye(len(fitted)))
        self._held_out = np.asarray(product.held_out, np.float64)  # [columns left, features]

    def losses(self, units: np.ndarray) -> np.ndarray:
        """float64 [units]: tr(W_u [H^-1]_uu^-1 W_u^T), as a share."""
        features = self._place[self._product.features[units]]
        if features.shape[1] == 1:
            at = features[:, 0]
            squares = np.einsum("of,of->f", self._weight, self._weight)
            losses = squares[at] / np.diagonal(self._inverse)[at]
        else:
            blocks = self._inverse[features[:, :, None], features[:, None, :]]
            weights = self._weight[:, features].transpose(1, 2, 0)  # [units, features, outputs]
            losses = np.einsum("ufo,ufo->u", weights, np.linalg.solve(blocks, weights))
        return np.asarray(losses / self._product.variance)

    def remove(self, units: np.ndarray, *, last: bool) -> None:
        """Lets the other inputs make up for those of some units."""
        if last:
            moments = np.asarray(self._product.held_out, np.float64)
            self._squared = float(np.vdot(self._original @ moments, self._original))
            return
        at = self._place[self._product.features[units].reshape(-1)]
        block = np.linalg.solve(self._inverse[np.ix_(at, at)], self._inverse[at])
        taken = self._weight[:, at].copy()
        self._count(taken, block)
        self._weight -= taken @ block
        self._inverse -= self._inverse[:, at] @ block
        self._weight[:, at] = 0.0
        # What is gone must not be asked again, nor leave rounding errors behind.
        self._inverse[at, :] = 0.0
        self._inverse[:, at] = 0.0
        self._inverse[at, at] = 1.0
        self._went[at] = True
        if np.count_nonzero(self._went) > _DROPPED * len(self._went):
            self._drop()

    def error(self) -> float:
        """The error on held-out rows, as a share."""
        return self._squared / self._product.variance

    def _count(self, taken: np.ndarray, block: np.ndarray) -> None:
        """Adds to tr(D H D^T), H of held-out rows, what moving D by -taken @ block does to it."""
        before = -(taken.T @ self._original)
        before[:, self._columns] += taken.T @ self._weight
        moved = block @ self._held_out
        both = np.vdot((taken.T @ taken) @ moved[:, self._columns], block)
        self._squared += float(both - 2 * np.vdot(before, moved))

    def _drop(self) -> None:
        left = np.flatnonzero(~self._went)
        self._columns = self._columns[left]
        self._place[self._columns] = np.arange(len(left))
        self._weight = np.ascontiguousarray(self._weight[:, left])
        self._inverse = self._inverse[np.ix_(left, left)]
        self._held_out = self._held_out[left]
        self._went = np.zeros(len(left), bool)
