"""Weights as indices into a short list of values.

Source: Han, Mao and Dally, "Deep Compression", ICLR 2016 (k-means over a weight); Lloyd, "Least
Squares Quantization in PCM", 1982; Arthur and Vassilvitskii, "k-means++", SODA 2007.

On a line, clusters are intervals of the sorted values. One step of Lloyd's algorithm is then a
binary search for each border and a difference of cumulative sums for each mean: its cost does not
grow with the number of weights, once they are sorted.
"""

from __future__ import annotations

import numpy as np

from onnxcompress.quantization.bitpack import WIDTHS, CodedWeight, Codes
from onnxcompress.quantization.groups import Grouping, Groups

_MAX_STEPS = 300
_RESTARTS = 4  # k-means++ starts beside the quantiles; the best of all is kept
_SAMPLE = 1 << 14  # values that k-means++ draws from: its cost does grow with them


def fit_codebook(values: np.ndarray, entries: int, seed: int) -> np.ndarray:
    """The values that stand for all others with the least squared error, by 1-D k-means.

    Args:
        values: finite floats of any shape.
        entries: how many there may be.
        seed: of the random starts.

    Returns:
        float32 [entries], ascending; the last is repeated if there are fewer distinct values.
    """
    ordered = np.sort(values.reshape(-1)).astype(np.float64)
    distinct = ordered[np.flatnonzero(np.diff(ordered, prepend=-np.inf))]
    if distinct.size <= entries:
        exact = np.pad(distinct, (0, entries - distinct.size), mode="edge")
        return exact.astype(np.float32)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    rng = np.random.default_rng(seed)
    quantiles = ordered[((np.arange(entries) + 0.5) * ordered.size / entries).astype(np.int64)]
    starts = [quantiles, np.linspace(ordered[0], ordered[-1], entries)]
    starts += [_plus_plus(ordered, entries, rng) for _ in range(_RESTARTS)]
    fitted = [_lloyd(ordered, sums, start) for start in starts]
    return max(fitted, key=lambda centers: _gain(ordered, sums, centers)).astype(np.float32)


def nearest(values: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """For each value the index (uint8, same shape) of the nearest of ascending entries."""
    centers = codebook.astype(np.float64)
    borders = (centers[1:] + centers[:-1]) / 2
    return np.searchsorted(borders, values, side="left").astype(np.uint8)


def index_bits(entries: int) -> int:
    """The fewest bits of `WIDTHS`, at least 2, that tell `entries` (4 to 256) apart."""
    return next(bits for bits in WIDTHS if bits > 1 and 1 << bits >= entries)


def palettize(values: np.ndarray, groups: Groups, entries: int, seed: int) -> CodedWeight:
    """W  ->  codebook[index].

    Args:
        values: finite float weight in `groups.shape`.
        groups: what shares a codebook: all, or an output channel; without blocks.
        entries: values in a codebook, 4 to 256.
        seed: of the random starts of k-means.
    """
    axis = next((a for a, length in enumerate(groups.numbers) if length > 1), 0)
    rows = int(np.prod(groups.numbers))
    lines = np.moveaxis(values, axis, 0).reshape(rows, -1)
    books = np.stack([fit_codebook(line, entries, seed) for line in lines])
    found = np.stack([nearest(line, book) for line, book in zip(lines, books, strict=True)])
    moved = (values.shape[axis], *values.shape[:axis], *values.shape[axis + 1 :])
    codes = np.moveaxis(found.reshape(moved), 0, axis)
    return CodedWeight(groups, (Codes(codes, index_bits(entries), books, None),))


def codebook_groups(shape: tuple[int, ...], axis: int, *, per_channel: bool) -> Groups:
    """One codebook for the tensor, or one for each index along `axis`."""
    grouping = Grouping.PER_CHANNEL if per_channel else Grouping.PER_TENSOR
    return Groups.of(shape, axis, grouping, 1)


def _plus_plus(ordered: np.ndarray, entries: int, rng: np.random.Generator) -> np.ndarray:
    """Values drawn with chances that grow with the squared distance from those drawn before."""
    sample = ordered[:: -(-ordered.size // _SAMPLE)]
    drawn = [rng.choice(sample)]
    distance = np.square(sample - drawn[0])
    while len(drawn) < entries and distance.any():
        drawn.append(rng.choice(sample, p=distance / distance.sum()))
        distance = np.minimum(distance, np.square(sample - drawn[-1]))
    return np.sort(np.pad(drawn, (0, entries - len(drawn)), mode="edge"))


def _clusters(ordered: np.ndarray, sums: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, ...]:
    """How many values lie nearest to each center, and their sum."""
    borders = (centers[1:] + centers[:-1]) / 2
    ends = np.concatenate([[0], np.searchsorted(ordered, borders, side="right"), [ordered.size]])
    return np.diff(ends), np.diff(sums[ends])


def _lloyd(ordered: np.ndarray, sums: np.ndarray, centers: np.ndarray) -> np.ndarray:
    for _ in range(_MAX_STEPS):
        counts, totals = _clusters(ordered, sums, centers)
        moved = np.where(counts > 0, totals / np.maximum(counts, 1), centers)
        if np.array_equal(moved, centers):
            break
        centers = np.sort(moved)
    return centers


def _gain(ordered: np.ndarray, sums: np.ndarray, centers: np.ndarray) -> float:
    """Minus the squared error, but for the sum of x^2, which does not depend on the centers."""
    counts, totals = _clusters(ordered, sums, centers)
    return float(np.sum(2 * centers * totals - counts * np.square(centers)))
