"""Which samples go where: a seeded choice that keeps the mix of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_indices(
    total: int, chosen: int, labels: np.ndarray | None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Chooses `chosen` of `total` samples at random, each label in proportion.

    Args:
        total: number of samples.
        chosen: how many to choose.
        labels: an integer for each sample, or None to choose without regard to them.
        rng: the source of randomness.

    Returns:
        Sorted indices.
    """
    if labels is None:
        return np.sort(rng.permutation(total)[:chosen])
    _, label_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Largest remainder: whole shares first, the rest to the labels cut the most, ties at random.
    shares = counts * chosen / total
    quotas = np.floor(shares).astype(np.int64)
    order = np.lexsort((rng.random(len(counts)), quotas - shares))
    quotas[order[: chosen - int(quotas.sum())]] += 1
    picked = [
        rng.permutation(np.flatnonzero(label_of == label))[:quota]
        for label, quota in enumerate(quotas)
    ]
    return np.sort(np.concatenate(picked)).astype(np.int64)
