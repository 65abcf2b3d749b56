"""Weights as products of two thinner ones that change a node's outputs least.

The matrix W' of rank r with the least E|(W - W') x|^2 is U U^T W, where U holds the first r left
singular vectors of W L and L L^T = E[x x^T]: directions of the outputs, not of the weight.

Source: Eckart and Young 1936 for the plain case; Chen et al., "DRONE: Data-aware Low-rank
Compression for Large NLP Models", NeurIPS 2021, for inputs that count by how they are.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

_DAMPING = 1e-4
"""Share of the mean variance added to each input's own: directions that the samples do not show."""


@dataclass(frozen=True)
class LowRank:
    """A weight split up into directions of its outputs, the strongest ones first.

    Attributes:
        weight: float64 [groups, outputs, features].
        directions: float64 [groups, outputs, directions], orthonormal columns.
        variances: float64 [groups, directions]: of the outputs along each.
    """

    weight: np.ndarray
    directions: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, moments: np.ndarray | None = None) -> LowRank:
        """Splits a weight up.

        Args:
            weight: float [groups, outputs, features].
            moments: float64 [groups, features, features], symmetric, E[x x^T] of what it is
                multiplied with; None counts all inputs alike.
        """
        weight = weight.astype(np.float64)
        seen = weight if moments is None else weight @ _root(moments)
        directions, strengths, _ = np.linalg.svd(seen, full_matrices=False)
        return cls(weight, directions, np.square(strengths))

    def lost(self, rank: int) -> float:
        """The share of the outputs' variance that a rank leaves out."""
        total = float(self.variances.sum())
        return float(self.variances[:, rank:].sum()) / total if total else 0.0

    def least_rank(self, energy: float) -> int:
        """The smallest rank, the same for each group, that keeps a share of the variance."""
        kept = np.cumsum(self.variances.sum(axis=0))
        return int(np.searchsorted(kept, energy * kept[-1] * (1 - 1e-12))) + 1

    def factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """The two weights, first the one that reads the inputs.

        Args:
            rank: for each group; the smaller of outputs and features gives the weight itself.

        Returns:
            float64 [groups, rank, features] and [groups, outputs, rank]. Rows of the first are
            scaled so that both have columns of like size, which gradients and integers like.
        """
        second = self.directions[:, :, :rank]
        first = second.transpose(0, 2, 1) @ self.weight
        norms = np.linalg.norm(first, axis=2, keepdims=True)
        scale = np.sqrt(np.where(norms > 0, norms, 1.0))
        return first / scale, second * scale.transpose(0, 2, 1)


def _root(moments: np.ndarray) -> np.ndarray:
    """L with L L^T = moments, damped.

    Moments of inputs far from zero, or nearly alike, may have lost their small variances to
    rounding: then more is added.
    """
    features = moments.shape[-1]
    variance = np.einsum("gff->g", moments) / features
    damping = np.where(variance > 0, variance, 1.0)[:, None, None] * np.eye(features)
    for share in (_DAMPING, 10 * _DAMPING, 100 * _DAMPING):
        with suppress(np.linalg.LinAlgError):
            return np.asarray(np.linalg.cholesky(moments + share * damping))
    values, vectors = np.linalg.eigh(moments)
    return np.asarray(
        vectors * np.sqrt(np.maximum(values, 0) + _DAMPING * variance[:, None])[:, None]
    )
