"""Weights that make up for what was pruned: ridge least squares from sums over the data.

With inputs x of the pruned model and outputs y of the original one, the weights W and biases b of a
linear node are moved by D to where the mean of |(W + D) x + b - y|^2 + ridge |D|^2 is least, zeros
of a mask kept. Source: Hoerl and Kennard, "Ridge Regression", 1970; for pruning He, Zhang and Sun,
"Channel Pruning for Accelerating Very Deep Neural Networks", 2017, section 3.1, which also takes
the inputs from the pruned and the outputs from the original network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

_CONSTANT = 1e-10
"""Variance, of the largest of a group, below which an input counts as constant."""

_ROUNDING = 1e-9
"""Squared error, of the mean square of an output, that float32 leaves where nothing is wrong."""

_STORED = 1e-5
"""Difference, of the largest number of a map, that is as good as none."""

_MOST_SOLVES = 1e12
"""Multiply-adds of exact solves; where supports differ from row to row and would take more,
conjugate gradients come near."""

_MOST_STACKED = 1 << 24
"""Numbers in small systems, one for each output, that are solved at once."""

_STEPS = 60
"""Most steps of conjugate gradients."""


@dataclass
class PairedMoments:
    """Sums over inputs and the outputs wanted for them, batch by batch.

    Attributes:
        products: float64 [groups, features, features], sum of x x^T.
        crossed: float64 [groups, outputs, features], sum of y x^T.
        squares: float64 [groups, outputs], sum of y^2.
        inputs: float64 [groups, features], sum of x.
        outputs: float64 [groups, outputs], sum of y.
        count: rows seen.
    """

    products: np.ndarray
    crossed: np.ndarray
    squares: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    count: int = 0

    @classmethod
    def empty(cls, groups: int, outputs: int, features: int) -> Self:
        """Nothing seen yet."""
        return cls(
            np.zeros((groups, features, features)),
            np.zeros((groups, outputs, features)),
            np.zeros((groups, outputs)),
            np.zeros((groups, features)),
            np.zeros((groups, outputs)),
        )

    def add(self, inputs: np.ndarray, outputs: np.ndarray) -> None:
        """Counts float rows [groups, n, features] and [groups, n, outputs]."""
        inputs, outputs = inputs.astype(np.float64), outputs.astype(np.float64)
        self.products += np.matmul(inputs.transpose(0, 2, 1), inputs)
        self.crossed += np.matmul(outputs.transpose(0, 2, 1), inputs)
        self.squares += np.square(outputs).sum(axis=1)
        self.inputs += inputs.sum(axis=1)
        self.outputs += outputs.sum(axis=1)
        self.count += inputs.shape[1]

    def __add__(self, other: PairedMoments) -> PairedMoments:
        """The sums over the rows of both."""
        return PairedMoments(
            self.products + other.products,
            self.crossed + other.crossed,
            self.squares + other.squares,
            self.inputs + other.inputs,
            self.outputs + other.outputs,
            self.count + other.count,
        )


@dataclass(frozen=True)
class Fit:
    """Linear maps y = W x + b, one a group.

    Attributes:
        weights: float64 [groups, outputs, features].
        bias: float64 [groups, outputs].
    """

    weights: np.ndarray
    bias: np.ndarray

    def errors(self, moments: PairedMoments) -> np.ndarray:
        """float64 [groups, outputs]: the mean squared error of each output."""
        weights, bias, count = self.weights, self.bias, max(moments.count, 1)
        quadratic = np.einsum("gof,gof->go", np.matmul(weights, moments.products), weights)
        crossed = np.einsum("gof,gof->go", weights, moments.crossed)
        shift = np.einsum("gof,gf->go", weights, moments.inputs)
        total = quadratic - 2 * crossed + moments.squares
        total += bias * (2 * shift - 2 * moments.outputs + count * bias)
        errors: np.ndarray = np.maximum(total / count, 0)
        return errors

    def where(self, chosen: np.ndarray, other: Fit) -> Fit:
        """The outputs chosen (bool [groups, outputs]) of `other`, the rest of this one."""
        return Fit(
            np.where(chosen[:, :, None], other.weights, self.weights),
            np.where(chosen, other.bias, self.bias),
        )


def ridge_fit(
    moments: PairedMoments, start: Fit, support: np.ndarray, ridge: float, *, intercept: bool
) -> Fit:
    """The linear maps with the least mean squared error, drawn towards those there are.

    Args:
        moments: of the data.
        start: what the ridge draws to.
        support: bool [groups, outputs, features]: False where weights keep the value they have.
        ridge: penalty on the squared change of a weight, as a share of the mean variance of the
            inputs; infinity moves biases alone. Inputs that are constant are left out exactly.
        intercept: whether biases may move; outputs without any support keep theirs.
    """
    count = max(moments.count, 1)
    second = moments.products / count
    remaining = moments.crossed / count - np.matmul(start.weights, second)
    input_mean, output_mean = moments.inputs / count, moments.outputs / count
    if intercept:
        shift = output_mean - np.einsum("gof,gf->go", start.weights, input_mean)
        second = second - input_mean[:, :, None] * input_mean[:, None, :]
        remaining -= shift[:, :, None] * input_mean[:, None, :]
    else:
        remaining -= start.bias[:, :, None] * input_mean[:, None, :]
    variance = np.einsum("gff->gf", second)
    live = variance > _CONSTANT * variance.max(axis=1, keepdims=True, initial=0)
    support = support & live[:, None, :]
    change = np.zeros_like(start.weights)
    if np.isfinite(ridge):
        mean = np.sum(variance, axis=1, where=live) / np.maximum(live.sum(axis=1), 1)
        damped = second + ridge * mean[:, None, None] * np.eye(second.shape[1])
        if len(second) > 1 and change.size * second.shape[1] <= _MOST_STACKED:
            change = _solve_stacked(damped, remaining, support)
        else:
            for group in range(len(second)):
                change[group] = _solve(damped[group], remaining[group], support[group])
    weights = start.weights + change
    if not intercept:
        return Fit(weights, start.bias)
    bias = output_mean - np.einsum("gof,gf->go", weights, input_mean)
    return Fit(weights, np.where(support.any(axis=2), bias, start.bias))


@dataclass(frozen=True)
class Choice:
    """The best of several fits.

    Attributes:
        fit: for each output the best on held-out rows, fitted to all rows.
        changed: bool [groups, outputs]: which outputs are not as they were.
        before: float64 [groups, outputs], the error on held-out rows of what there was.
        after: likewise of what was chosen, fitted without those rows.
    """

    fit: Fit
    changed: np.ndarray
    before: np.ndarray
    after: np.ndarray


def choose_ridge(
    fitted: PairedMoments,
    held_out: PairedMoments,
    current: Fit,
    start: Fit,
    support: np.ndarray,
    ridges: Sequence[float],
    *,
    intercept: bool,
    gain: float,
) -> Choice:
    """For each output the ridge that does best on rows that were held out; none if none helps.

    Args:
        fitted: sums over most rows; `held_out` over the others.
        held_out: decides.
        current: the maps as they are.
        start: what the ridge draws to; if it is not `current`, fitting again changes nothing.
        support: see `ridge_fit`.
        ridges: tried in turn.
        intercept: see `ridge_fit`.
        gain: share of the held-out error by which a map must be better than what there is.
    """
    before = current.errors(held_out)
    # What is left where nothing is wrong is rounding.
    limit = before * (1 - gain) - _ROUNDING * held_out.squares / max(held_out.count, 1)
    best, after = np.full(before.shape, -1), before
    for index, ridge in enumerate(ridges):
        errors = ridge_fit(fitted, start, support, ridge, intercept=intercept).errors(held_out)
        better = errors < np.where(best < 0, limit, after)
        best, after = np.where(better, index, best), np.where(better, errors, after)
    whole, fit = fitted + held_out, current
    for index in np.unique(best[best >= 0]):
        again = ridge_fit(whole, start, support, ridges[index], intercept=intercept)
        fit = fit.where(best == index, again)
    changed = (best >= 0) & ~_nearly_equal(fit, current)
    return Choice(current.where(changed, fit), changed, before, np.where(changed, after, before))


def _nearly_equal(one: Fit, two: Fit) -> np.ndarray:
    """Bool [groups, outputs]: maps that storing and adding up in float32 may have set apart."""
    size = np.maximum(np.abs(two.weights).max(axis=2, initial=0), np.abs(two.bias))
    apart = np.abs(one.weights - two.weights).max(axis=2, initial=0)
    near: np.ndarray = np.maximum(apart, np.abs(one.bias - two.bias)) <= _STORED * size
    return near


def _solve_stacked(damped: np.ndarray, remaining: np.ndarray, support: np.ndarray) -> np.ndarray:
    """`_solve` for many small groups: features without support keep a row of their own, 0 = 0."""
    both = support[:, :, :, None] & support[:, :, None, :]
    own = ~support[:, :, :, None] & np.eye(support.shape[2], dtype=np.bool_)
    systems = np.where(both, damped[:, None], own)
    empty = np.einsum("goff->gof", systems) == 0  # a group whose inputs are all constant
    systems += empty[:, :, :, None] * np.eye(support.shape[2])
    right = np.where(support, remaining, 0.0)
    solution: np.ndarray = np.linalg.solve(systems, right[..., None])[..., 0]
    return solution


def _solve(damped: np.ndarray, remaining: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Rows d [outputs, features] with `damped` d = `remaining`, where each row has support."""
    patterns = list(_by_support(support))
    if sum(features.size**3 for features, _ in patterns) > _MOST_SOLVES:
        return _approach(damped, remaining, support)
    solution = np.zeros_like(remaining)
    for features, rows in patterns:
        right = remaining[np.ix_(rows, features)].T
        solution[np.ix_(rows, features)] = np.linalg.solve(
            damped[np.ix_(features, features)], right
        ).T
    return solution


def _by_support(support: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each set of features that rows [outputs, features] have in common, and those rows."""
    packed, place = np.unique(np.packbits(support, axis=1), axis=0, return_inverse=True)
    for index, bits in enumerate(packed):
        features = np.flatnonzero(np.unpackbits(bits, count=support.shape[1]))
        if features.size:
            yield features, np.flatnonzero(place.reshape(-1) == index)


def _approach(damped: np.ndarray, remaining: np.ndarray, support: np.ndarray) -> np.ndarray:
    """`_solve` by conjugate gradients on all rows at once, each step lowering the error."""
    own = np.diag(damped)
    solution, residual = np.zeros_like(remaining), np.where(support, remaining, 0.0)
    tiny = np.finfo(np.float64).tiny
    toward = residual / own
    direction, height = toward, np.sum(residual * toward, axis=1)
    for _ in range(_STEPS):
        image = np.where(support, direction @ damped, 0.0)
        step = height / np.maximum(np.sum(direction * image, axis=1), tiny)
        solution += step[:, None] * direction
        residual = residual - step[:, None] * image
        toward = residual / own
        lower = np.sum(residual * toward, axis=1)
        direction = toward + (lower / np.maximum(height, tiny))[:, None] * direction
        height = lower
    return solution
