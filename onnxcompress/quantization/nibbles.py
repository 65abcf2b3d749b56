"""Codes below a byte packed side by side, as onnxruntime's kernels read them."""

from __future__ import annotations

import numpy as np


def per_byte(bits: int) -> int:
    """How many codes of that width share a byte; 1 for 8 and 16 bits."""
    return max(8 // bits, 1)


def pack_last_axis(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs neighbours on the last axis into bytes, the first in the lowest bits.

    Source: ONNX INT4 and INT2 tensors, com.microsoft MatMulNBits.

    Args:
        codes: uint8 [..., n], each below 2 ** bits.
        bits: 2, 4 or 8.

    Returns:
        uint8 [..., n * bits / 8, rounded up]; what is left of the last byte is zero.
    """
    together = per_byte(bits)
    short = -codes.shape[-1] % together
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, short)])
    packed = np.zeros((*codes.shape[:-1], padded.shape[-1] // together), np.uint8)
    for place in range(together):
        packed |= padded[..., place::together] << np.uint8(place * bits)
    return packed
