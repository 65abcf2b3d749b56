"""Pixels -> model input."""

from __future__ import annotations

import numpy as np


def normalized_nchw(
    images: np.ndarray, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> np.ndarray:
    """uint8 (N, H, W, 3) -> contiguous float32 (N, 3, H, W): (pixel / 255 - mean) / std."""
    scaled = images.astype(np.float32) / np.float32(255)
    normalized = (scaled - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
    return np.ascontiguousarray(normalized.transpose(0, 3, 1, 2))
