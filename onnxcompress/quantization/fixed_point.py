"""Fixed-point numbers, Qm.n, and the integer arithmetic that a device without floats does on them.

A number is an integer of `word_length` bits in two's complement, divided by 2 ** fraction_bits.
Products are summed in wide integers, shifted right with rounding half to even, and saturated. In
ONNX the same is a QuantizeLinear or DequantizeLinear whose scale is a power of two and whose zero
point is 0 (operators of opset 10 and later; int16 from opset 21).

Source: the Q notation of Texas Instruments, "TMS320C64x DSP Library Programmer's Reference", 2003,
appendix A; here m counts the sign, so that m + n is the word length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxcompress.quantization.observers import Range
from onnxcompress.quantization.qparams import SIGNED, QParams

MIN_WORD, MAX_WORD = 4, 16
"""The word lengths there are."""

MOST_FRACTION_BITS = 60
"""Largest magnitude of `fraction_bits`: a product's scale is a normal float32 still."""

EXACT_FLOAT_BITS = 24
"""Integers below 2 to this are exact in float32: a sum of products that stays below it is what the
integers give, in whatever order a float kernel adds."""


@dataclass(frozen=True)
class FixedPoint:
    """`word_length` bits in two's complement, `fraction_bits` of them behind the point."""

    word_length: int
    fraction_bits: int

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        half = 1 << (self.word_length - 1)
        return -half, half - 1

    @property
    def scale(self) -> float:
        """What an integer of 1 stands for; exact in float32."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def dtype(self) -> np.dtype:
        """The numpy type that holds a word."""
        return SIGNED[8 if self.word_length <= 8 else 16]

    @property
    def qparams(self) -> QParams:
        """The same for one tensor, as ONNX has it."""
        bits = self.dtype.itemsize * 8
        word = None if self.word_length == bits else self.word_length
        scale = np.asarray(self.scale, np.float32)
        return QParams(scale, np.zeros((), self.dtype), word_length=word)


def format_for(observed: Range, word_length: int) -> FixedPoint:
    """The format with the most fraction bits in which nothing of a range saturates.

    All zeros get a point right behind the sign. Fraction bits stay within `MOST_FRACTION_BITS`.
    """
    low, high = float(observed.low), float(observed.high)
    largest = max(-low, high, 0.0)
    if largest == 0.0:
        return FixedPoint(word_length, word_length - 1)
    # 2 ** (exponent - 1) <= largest < 2 ** exponent, so the answer is this or one beside it.
    fraction = word_length - math.frexp(largest)[1]
    while not _holds(FixedPoint(word_length, fraction), low, high):
        fraction -= 1
    return FixedPoint(word_length, max(min(fraction, MOST_FRACTION_BITS), -MOST_FRACTION_BITS))


def next_power_of_two(scale: np.ndarray) -> np.ndarray:
    """The smallest powers of two that are not below positive float32 scales, in their shape."""
    mantissa, exponent = np.frexp(scale)
    return np.asarray(np.ldexp(np.float32(1), exponent - (mantissa == 0.5)), np.float32)


def to_integers(values: np.ndarray, fixed: FixedPoint) -> np.ndarray:
    """int64: real values of any shape rounded half to even, and saturated."""
    levels = np.rint(np.ldexp(values.astype(np.float64), fixed.fraction_bits))
    return np.clip(levels, *fixed.limits).astype(np.int64)


def to_real(integers: np.ndarray, fraction_bits: int) -> np.ndarray:
    """float64: what integers stand for."""
    return np.asarray(np.ldexp(integers.astype(np.float64), -fraction_bits))


def rescale(sums: np.ndarray, fraction_bits: int, fixed: FixedPoint) -> np.ndarray:
    """int64 sums with that many fraction bits, shifted and saturated into a format.

    A shift right rounds half to even, by integer operations alone.
    """
    shift = fraction_bits - fixed.fraction_bits
    if shift <= 0:
        return np.asarray(np.clip(sums << -shift, *fixed.limits))
    floor, rest, half = sums >> shift, sums & ((1 << shift) - 1), 1 << (shift - 1)
    up = (rest > half) | ((rest == half) & (floor & 1 == 1))
    return np.asarray(np.clip(floor + up, *fixed.limits))


def product(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """int64 sums of Gemm or MatMul: integers [n, k] times [k, m], plus [m]."""
    sums = np.matmul(x.astype(np.int64), weight.astype(np.int64))
    return np.asarray(sums if bias is None else sums + bias.astype(np.int64))


def convolution(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
) -> np.ndarray:
    """int64 sums of a Conv in two dimensions (ONNX Conv, opset 1-22).

    Args:
        x: integers [n, channels, h, w].
        weight: integers [outputs, channels / groups, kh, kw].
        bias: integers [outputs].
        strides: steps between outputs.
        pads: zeros above, left, below and right.
        groups: must divide channels and outputs.
    """
    top, left, bottom, right = pads
    x = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, inputs, *kernel = weight.shape
    views = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel), axis=(2, 3))
    views = views[:, :, :: strides[0], :: strides[1]]
    split = views.reshape(x.shape[0], groups, inputs, *views.shape[2:])
    parts = weight.astype(np.int64).reshape(groups, outputs // groups, inputs, *kernel)
    sums = np.einsum("ngihwkl,goikl->ngohw", split, parts)
    sums = sums.reshape(x.shape[0], outputs, *views.shape[2:4])
    return np.asarray(sums if bias is None else sums + bias.astype(np.int64)[:, None, None])


def _holds(fixed: FixedPoint, low: float, high: float) -> bool:
    least, most = fixed.limits
    ends = np.rint(np.ldexp([low, high], fixed.fraction_bits))
    return bool(ends[0] >= least and ends[1] <= most)
