"""int8 weights whose products with uint8 activations fit an int16, two at a time.

x86 without VNNI adds two neighbouring products in int16 (`vpmaddubsw`), which saturates silently.
Activations are taken to reach 255: their ranges are chosen so that they do.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, PMADDUBSW.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxcompress.quantization.granularity import Granularity
from onnxcompress.quantization.qparams import MIN_SCALE, QParams, symmetric_qparams
from onnxcompress.quantization.rounding import Bounds

PAIR_LIMIT = 32767 // 255
"""What two neighbouring int8 weights of one sign may add up to: 128."""

_PAIR_LEVELS = PAIR_LIMIT - 1  # rounding to nearest adds at most half a level to each of the two


def pairs(rows: np.ndarray) -> np.ndarray:
    """Neighbours side by side: [..., features] to [..., ceil(features / 2), 2]."""
    odd = rows.shape[-1] % 2
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, odd)])
    return padded.reshape(*padded.shape[:-1], -1, 2)


def pair_sums(rows: np.ndarray) -> np.ndarray:
    """How far the products of each pair can add up.

    Args:
        rows: weights [..., features] in the order in which the kernel reads them.

    Returns:
        float64 [..., ceil(features / 2)]: the sum of a pair where both have one sign, else the
        larger of the two, as a magnitude.
    """
    both = pairs(rows.astype(np.float64))
    up, down = np.maximum(both, 0).sum(axis=-1), np.minimum(both, 0).sum(axis=-1)
    sums: np.ndarray = np.maximum(up, -down)
    return sums


def pair_safe_qparams(values: np.ndarray, granularity: Granularity, rows: np.ndarray) -> QParams:
    """Symmetric int8 qparams with the smallest scales at which no pair can saturate.

    They are those of `symmetric_qparams` wherever large weights have no large neighbour of their
    sign, and at most twice as large.

    Args:
        values: float weight of any shape.
        granularity: what shares a scale: nothing, or output channels.
        rows: the same weights, [output channels, features] in the order of the kernel.
    """
    qparams = symmetric_qparams(values, granularity)
    largest = pair_sums(rows).max(axis=-1, initial=0.0)
    if not qparams.scale.ndim:
        largest = largest.max(initial=0.0)
    least = np.maximum(largest / _PAIR_LEVELS, float(MIN_SCALE))
    scale = np.where(largest > 0, least, qparams.scale).astype(np.float32)
    return replace(qparams, scale=scale)


def pair_bounds(wanted: np.ndarray) -> Bounds:
    """How far weights may move for `pair_safe_qparams` to choose the same scales again.

    The room that a pair of one sign has is shared by the two.

    Args:
        wanted: [..., features], weights in units of their scale, in the order of the kernel.
    """
    both = pairs(wanted)
    size = np.abs(both)
    one_sign = (both >= 0).all(axis=-1, keepdims=True) | (both <= 0).all(axis=-1, keepdims=True)
    room = np.where(one_sign, _PAIR_LEVELS - 1 - size.sum(axis=-1, keepdims=True), 0)
    most = np.where(one_sign, np.floor(size + room / 2), _PAIR_LEVELS - 1)
    free = ((room >= 0) & (np.rint(size) <= most)).all(axis=-1, keepdims=True)

    def flat(values: np.ndarray) -> np.ndarray:
        every = np.broadcast_to(values, both.shape).reshape(*wanted.shape[:-1], -1)
        return every[..., : wanted.shape[-1]]

    return Bounds(flat(np.where(both < 0, -most, 0)), flat(np.where(both < 0, 0, most)), flat(free))
