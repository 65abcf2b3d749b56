"""Channels that others could stand in for.

Source: He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
Acceleration", 2019 (arXiv 1811.00250), equation 8.
"""

from __future__ import annotations

import numpy as np

_AT_ONCE = 256
"""Rows whose distances to all others are held at a time."""


def geometric_median_importance(rows: np.ndarray) -> np.ndarray:
    """How far each unit lies from all others: the nearest to their geometric median goes first.

    Args:
        rows: float [units, values], what belongs to each channel.

    Returns:
        float64 [units]: the sum of Euclidean distances to all other rows.
    """
    # Distances do not depend on the origin; around the mean, squares cancel least.
    points = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    squares = np.einsum("uv,uv->u", points, points)
    totals = np.empty(len(points))
    for first in range(0, len(points), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        distances = squares[part, None] + squares - 2 * points[part] @ points.T
        totals[part] = np.sqrt(np.maximum(distances, 0)).sum(axis=1)
    return totals
