"""Vectors whose neighbours matter."""

from __future__ import annotations

import numpy as np

from tests.verdict.support import Case, Outputs, Quality, stacked

_NEIGHBOURS = 5


def neighbours(vectors: np.ndarray) -> np.ndarray:
    """The five others in the most similar direction for each vector, [samples, 5]."""
    flat = vectors.reshape(len(vectors), -1).astype(np.float64)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    likeness = flat @ flat.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1)[:, :_NEIGHBOURS]


def quality_of(name: str) -> Quality:
    """The share of each sample's neighbours that are still its neighbours."""

    def quality(original: Outputs, candidate: Outputs) -> float:
        pairs = zip(
            neighbours(stacked(original, name)), neighbours(stacked(candidate, name)), strict=True
        )
        return float(np.mean([len({*near} & {*other}) / _NEIGHBOURS for near, other in pairs]))

    return quality


CASES = {
    "keyword-embedding": Case(
        kinds={"feature_output": "embedding"}, quality=quality_of("feature_output")
    ),
    "speech-features": Case(kinds={"conv2d_19": "embedding"}, quality=quality_of("conv2d_19")),
}
