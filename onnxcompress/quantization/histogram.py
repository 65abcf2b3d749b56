"""One tensor's distribution, gathered batch by batch in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from onnxcompress.errors import DataError

BINS = 4096
"""The most bins a histogram holds."""

_SMALLEST_EXPONENT = -120  # below float32's normal range no activation is worth resolving
_CHUNK = 1 << 15  # values counted at once, so that what lies between stays in the cache


@dataclass
class Histogram:
    """Counts over bins whose edges are multiples of a power of two, zero among them.

    When values outgrow `BINS` bins, neighbouring bins merge and the width doubles. Merging is
    exact, so the result does not depend on the order or the size of the batches.

    Attributes:
        exponent: the bin width is 2 ** exponent.
        first: index of the first bin; bin i covers [i, i + 1) * width.
        counts: int64, how many values fell in each bin.
        minimum: smallest value seen; `maximum` likewise.
    """

    exponent: int = _SMALLEST_EXPONENT
    first: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    minimum: float = math.inf
    maximum: float = -math.inf

    def add(self, values: np.ndarray) -> None:
        """Counts a batch of float values of any shape.

        Raises:
            DataError: a value is NaN or infinite.
        """
        if values.size == 0:
            return
        with np.errstate(over="ignore"):  # the next check finds what float32 cannot hold
            values = values.astype(np.float32, copy=False)
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError("holds NaN or infinite values on the calibration data")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._widen()
        per_bin = math.ldexp(1.0, -self.exponent)
        flat = values.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            # A power of two scales float32 exactly, so float32 arithmetic finds the right bin.
            chunk = flat[start : start + _CHUNK]
            scaled = np.multiply(chunk, per_bin, dtype=np.float32)
            index = np.floor(scaled, out=scaled).astype(np.int64)
            index[(scaled == 0) & (chunk < 0)] = -1  # too small for float32 once scaled
            index -= self.first
            self.counts += np.bincount(index, minlength=self.counts.size)

    def _widen(self) -> None:
        """Merges and extends the bins until they hold [minimum, maximum]."""
        exponent = max(self.exponent, _exponent_for(self.minimum, self.maximum))
        first = math.floor(math.ldexp(self.minimum, -exponent))
        last = math.floor(math.ldexp(self.maximum, -exponent))
        counts = np.zeros(last - first + 1, np.int64)
        if self.counts.size:
            old = np.arange(self.first, self.first + self.counts.size)
            np.add.at(counts, (old >> (exponent - self.exponent)) - first, self.counts)
        self.exponent, self.first, self.counts = exponent, first, counts

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def edges(self) -> np.ndarray:
        """float64 [bins + 1]: where bins begin and end, cut to the values seen."""
        index = np.arange(self.first, self.first + self.counts.size + 1, dtype=np.float64)
        edges: np.ndarray = np.ldexp(index, self.exponent)
        return edges.clip(self.minimum, self.maximum)

    @property
    def centers(self) -> np.ndarray:
        """float64 [bins]: the middle of each bin."""
        edges = self.edges
        centers: np.ndarray = (edges[:-1] + edges[1:]) / 2
        return centers

    def quantile(self, fraction: float) -> float:
        """The value below which `fraction` of the values lie, interpolated within its bin."""
        cumulative = np.concatenate([[0], np.cumsum(self.counts)]) / max(self.total, 1)
        return float(np.interp(fraction, cumulative, self.edges))


def _exponent_for(low: float, high: float) -> int:
    """The smallest width exponent with which BINS bins hold [low, high]."""
    span = max(high - low, max(abs(low), abs(high)) / BINS)
    if span == 0:
        return _SMALLEST_EXPONENT
    exponent = max(math.frexp(span / BINS)[1] - 1, _SMALLEST_EXPONENT)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= BINS:
        exponent += 1
    return exponent
