"""Which neighbour on the grid each weight goes to, so that outputs change least.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020, section
3, for the objective: a layer's squared output error, a quadratic form in the weights' errors with
the second moments of its inputs. It is minimized here by coordinate descent on the integers
themselves, which needs no training and never raises it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_DAMPING = 0.01
"""Share of the mean variance added to each input's own: directions that the samples do not show."""


@dataclass
class Moments:
    """Sums over the inputs of a weighted node, batch by batch.

    Attributes:
        products: float64 [groups, features, features], sum of x x^T.
        totals: float64 [groups, features], sum of x.
        count: rows seen.
    """

    products: np.ndarray
    totals: np.ndarray
    count: int = 0

    @classmethod
    def empty(cls, groups: int, features: int) -> Moments:
        """Nothing seen yet."""
        return cls(np.zeros((groups, features, features)), np.zeros((groups, features)))

    def add(self, rows: np.ndarray) -> None:
        """Counts float rows [groups, n, features]."""
        self.products += np.matmul(rows.transpose(0, 2, 1), rows)
        self.totals += rows.sum(axis=1, dtype=np.float64)
        self.count += rows.shape[1]

    @property
    def mean(self) -> np.ndarray:
        """float64 [groups, features]: E[x]."""
        mean: np.ndarray = self.totals / max(self.count, 1)
        return mean

    @property
    def second(self) -> np.ndarray:
        """float64 [groups, features, features]: E[x x^T]."""
        second: np.ndarray = self.products / max(self.count, 1)
        return second

    @property
    def covariance(self) -> np.ndarray:
        """float64 [groups, features, features]: E[x x^T] - E[x] E[x]^T."""
        mean = self.mean
        covariance: np.ndarray = self.second - mean[:, :, None] * mean[:, None, :]
        return covariance


def squared_error(errors: np.ndarray, moments: np.ndarray) -> float:
    """The mean squared error of the outputs, summed over them.

    Args:
        errors: float [groups, outputs, features], weights as they are minus as they should be.
        moments: float64 [groups, features, features], symmetric, of the inputs.
    """
    return float(np.sum(np.matmul(errors, moments) * errors))


@dataclass(frozen=True)
class Bounds:
    """How far weights may move on their grid; each array has the shape of the weights.

    Attributes:
        low: the smallest integer each may become; `high` the largest.
        free: bool; the others stay as they are, since their grid was chosen by them.
    """

    low: np.ndarray
    high: np.ndarray
    free: np.ndarray


def round_to_grid(
    weights: np.ndarray,
    scale: np.ndarray,
    moments: np.ndarray,
    bounds: Bounds,
    sweeps: int,
    *,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Integers whose outputs come near those of the weights.

    Starts from the nearest integers, or those given; then goes through the features, and for each
    puts every free weight where the error is least with all others as they are, until none moves.

    Args:
        weights: float [groups, outputs, features].
        scale: float, broadcasts with `weights`.
        moments: float64 [groups, features, features], second moments or covariance of the inputs.
        bounds: of each weight.
        sweeps: most rounds through all features.
        start: whole numbers, shape of `weights`; None for the nearest.

    Returns:
        float64, whole numbers where weights are free, shape of `weights`.
    """
    weights = weights.astype(np.float64)
    scale = np.broadcast_to(scale.astype(np.float64), weights.shape)
    low, high, free = bounds.low, bounds.high, bounds.free
    wanted = weights / scale
    nearest = np.rint(wanted) if start is None else start
    levels: np.ndarray = np.where(free, np.clip(nearest, low, high), wanted)
    variance = np.einsum("gkk->gk", moments)
    damping = _DAMPING * variance.mean(axis=1, keepdims=True)
    own = variance + damping
    moments = moments + damping[:, :, None] * np.eye(weights.shape[2])
    errors = np.where(free, levels * scale - weights, 0)
    gradient = np.matmul(errors, moments)
    for _ in range(sweeps):
        moved = False
        for k in np.flatnonzero(own.max(axis=0) > 0):
            step = gradient[:, :, k] / np.maximum(own[:, None, k], np.finfo(np.float64).tiny)
            best = np.rint(levels[:, :, k] - step / scale[:, :, k])
            best = np.clip(best, low[:, :, k], high[:, :, k])
            best = np.where(free[:, :, k], best, levels[:, :, k])
            change = (best - levels[:, :, k]) * scale[:, :, k]
            groups, rows = np.nonzero(change)
            if not groups.size:
                continue
            moved = True
            levels[:, :, k] = best
            gradient[groups, rows] += change[groups, rows, None] * moments[groups, k]
        if not moved:
            break
    return levels
