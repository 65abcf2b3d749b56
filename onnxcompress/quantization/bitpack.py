"""Small codes packed in bytes, and the weights they stand for.

Codes lie in planes: with 2 bits, byte j holds codes j, j + n, j + 2n and j + 3n of a stream of 4n.
So a plane is the bytes shifted right, and unpacking needs no transposition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcompress.quantization.groups import Groups

WIDTHS = (1, 2, 4, 8)
"""Bits that a code may take: those that divide a byte."""


def planes(bits: int) -> int:
    """Codes in a byte."""
    return 8 // bits


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs codes, the first plane in the lowest bits.

    Args:
        codes: uint8 of any shape, each below 2 ** bits.
        bits: one of `WIDTHS`.

    Returns:
        uint8 [1, bytes]; the last byte of a plane may hold zeros beyond the codes.
    """
    stream = np.ascontiguousarray(codes, np.uint8).reshape(-1)
    width = -(-stream.size // planes(bits))
    laid = np.pad(stream, (0, width * planes(bits) - stream.size)).reshape(planes(bits), width)
    packed = np.zeros((1, width), np.uint8)
    for plane, row in enumerate(laid):
        packed[0] |= row << np.uint8(plane * bits)
    return packed


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` codes, uint8 [count], of what `pack` gave."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, 1)
    codes: np.ndarray = ((packed >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    return codes


@dataclass(frozen=True)
class Codes:
    """Codes, the values they stand for, and what those are multiplied with.

    Attributes:
        codes: uint8, in the `split` shape of the weight's groups.
        bits: one of `WIDTHS`.
        codebook: float32 [groups, entries], or [1, entries] if all groups share one.
        scale: float32 in the `numbers` shape of the groups; None for 1.
    """

    codes: np.ndarray
    bits: int
    codebook: np.ndarray
    scale: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Bytes that codes, codebook and scale take in a file."""
        packed = -(-self.codes.size // planes(self.bits))
        return packed + self.codebook.nbytes + (0 if self.scale is None else self.scale.nbytes)


@dataclass(frozen=True)
class CodedWeight:
    """A weight as a sum of coded terms.

    Attributes:
        groups: how the weight is laid out.
        terms: at least one; added in this order, in float32.
    """

    groups: Groups
    terms: tuple[Codes, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that all terms take in a file."""
        return sum(term.nbytes for term in self.terms)

    def values(self) -> np.ndarray:
        """The float32 weight, bit for bit what the nodes that unpack it give."""
        total = self._term(self.terms[0])
        for term in self.terms[1:]:
            total = total + self._term(term)
        return self.groups.join(total)

    def _term(self, term: Codes) -> np.ndarray:
        index = term.codes.astype(np.int32) + row_offsets(term, self.groups)
        real: np.ndarray = np.take(term.codebook.reshape(-1), index)
        if term.scale is None:
            return real
        scaled: np.ndarray = real * term.scale
        return scaled


def row_offsets(term: Codes, groups: Groups) -> np.ndarray:
    """int32, broadcasts with the codes: where each group's row of the flat codebook begins."""
    rows, entries = term.codebook.shape
    if rows == 1:
        return np.zeros((1,) * len(groups.split), np.int32)
    starts: np.ndarray = np.arange(rows, dtype=np.int32) * entries
    return starts.reshape(groups.numbers)
