"""Numbers beside numbers, by what they measure: how much of what varies is lost.

Ours and theirs are arrays of shape (samples, channels, places), or lists of one array (channels,
places) for each sample. A channel is one of the things that an output measures, such as one column
of a table or one band of a spectrogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.rates import ratio
from onnxcompress.measure.tally import RowTally, Sums

FRACTION_SCALE: Final = 0.001
"""The least spread that scores between 0 and 1 are measured by: a thousandth of their range."""

_RELATIVE_SCALE: Final = 1e-4
"""The least spread of other numbers, as a share of their own size; float32 resolves less."""

_TENSOR_SCALE: Final = 1e-6
"""The same as a share of the output's largest channel."""

WORST_SHARE: Final = 10
"""Channels are judged by the worst of so many; below twice as many that is one channel."""


_FAINT: Final = 0.1


def spread_tally(ours: Output, theirs: Output, *, scale: float = 0.0) -> RowTally:
    """Squared error, squared spread and the least squared spread to count: (samples, 3 * channels).

    The spread is the deviation from the mean over samples at each place, or where samples differ in
    shape, over samples and places; so what answers the same to all samples keeps nothing of it.

    Args:
        ours: what is judged.
        theirs: what it is compared with.
        scale: the natural scale of the numbers, below which a spread means nothing.

    Raises:
        DataError: the two do not have the same shapes.
    """
    return RowTally(_rows(ours, theirs, scale, np.square, 2))


def deviation_tally(ours: Output, theirs: Output, *, scale: float = 0.0) -> RowTally:
    """The same with absolute values instead of squares: (samples, 3 * channels)."""
    return RowTally(_rows(ours, theirs, scale, np.abs, 1))


def kept_share(sums: Sums) -> NDArray[np.float64]:
    """The share of the spread that is kept, 0 to 1; the mean over the worst tenth of channels."""
    error, spread, least = _split(sums)
    lost = _lost(error, np.maximum(spread, least))
    count = max(1, lost.shape[-1] // WORST_SHARE)
    worst = np.sort(np.minimum(lost, 1.0), axis=-1)[..., -count:]
    return np.asarray(1 - worst.mean(axis=-1))


def spread_and_error(sums: Sums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What varies in each channel, and the error in it."""
    error, spread, least = _split(sums)
    return np.maximum(spread, least), error


def forgotten(spread: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.int64]:
    """Channels that keep less than half of what varies in them, squares of deviations.

    Those that vary by less than a tenth of what most do are left out: noise that is small for the
    others is large for them.
    """
    varies = spread >= _FAINT**2 * np.median(spread)
    return np.flatnonzero(varies & (error > spread / 2))


def mean_error(sums: Sums) -> NDArray[np.float64]:
    """The error of a sample, the mean over channels, in the units of `sums`."""
    error, _, _ = _split(sums)
    return np.asarray(error.mean(axis=-1))


def root_mean_error(sums: Sums) -> NDArray[np.float64]:
    """The root of it."""
    return np.asarray(np.sqrt(mean_error(sums)))


def lost_spread(sums: Sums) -> NDArray[np.float64]:
    """Error over spread of the worst tenth of the channels, without a limit."""
    error, spread, least = _split(sums)
    lost = _lost(error, np.maximum(spread, least))
    count = max(1, lost.shape[-1] // WORST_SHARE)
    return np.asarray(np.sort(lost, axis=-1)[..., -count:].mean(axis=-1))


def _split(sums: Sums) -> tuple[Sums, Sums, Sums]:
    """Sums over samples divided by how many there are; the last entry of a row counts one."""
    means = sums[..., :-1] / np.maximum(sums[..., -1:], 1)
    error, spread, least = np.split(means, 3, axis=-1)
    return error, spread, least


def _lost(error: Sums, spread: Sums) -> Sums:
    """Error over spread; without any spread, 0 for no error and infinite for any."""
    return ratio(error, spread, np.where(error > 0, np.inf, 0.0))


def _rows(
    ours: Output, theirs: Output, scale: float, size: np.ufunc, power: int
) -> NDArray[np.float64]:
    """One row a sample. Samples are widened one at a time: maps of many would not fit twice."""
    if len(ours) != len(theirs):
        raise DataError(f"{len(ours)} samples cannot be compared with {len(theirs)}")
    centre, powers = _centre([_fitted(*pair) for pair in zip(ours, theirs, strict=True)])
    roots = np.sqrt(powers)
    least = np.maximum(_RELATIVE_SCALE * roots, _TENSOR_SCALE * roots.max(initial=0.0))
    floor = np.maximum(least, scale) ** power
    rows = []
    for found, wanted in zip(ours, theirs, strict=True):
        answer, target = _wide(_plane(found)), _wide(_fitted(found, wanted))
        with np.errstate(invalid="ignore"):
            # Equal infinities, as of classes that are masked out, have no difference.
            error = size(np.where(answer == target, 0, answer - target)).mean(axis=1)
        spread = size(np.where(np.isfinite(target), target - centre, 0)).mean(axis=1)
        rows.append(np.concatenate([error, spread, floor, [1.0]]))
    return np.array(rows)


def _centre(arrays: Sequence[np.ndarray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is subtracted before spread is measured, (channels, places or 1), and mean squares."""
    total = np.zeros(arrays[0].shape)
    squares = np.zeros(len(arrays[0]))
    alike = len({array.shape for array in arrays}) == 1 and len(arrays) > 1
    places = 0
    if len(arrays) == 1 and arrays[0].shape[1] < 2:
        # One number alone does not tell what varies: it is measured from 0.
        return total, np.square(_wide(arrays[0])).mean(axis=1)
    if not alike:
        total = np.zeros((len(arrays[0]), 1))
    for array in arrays:
        wide = _wide(array)
        wide = np.where(np.isfinite(wide), wide, 0)
        squares += np.square(wide).mean(axis=1)
        total += wide if alike else wide.sum(axis=1, keepdims=True)
        places += wide.shape[1]
    return total / (len(arrays) if alike else max(places, 1)), squares / len(arrays)


def _fitted(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """What is compared with, in the shape of the output; labels may lack axes of length 1.

    Raises:
        DataError: it has more or fewer numbers.
    """
    plane, target = _plane(found), np.asarray(wanted)
    if target.size != plane.size:
        raise DataError(
            f"{target.size} numbers are wanted for one sample and the output holds {plane.size}; "
            f"choose another output or metric"
        )
    return target.reshape(plane.shape)


def _plane(array: np.ndarray) -> np.ndarray:
    """Shape (channels, places)."""
    found = np.asarray(array)
    return found.reshape(1, -1) if found.ndim < 2 else found.reshape(len(found), -1)


def _wide(array: np.ndarray) -> NDArray[np.float64]:
    return array.astype(np.float64)


def with_constant_answers(sums: Sums) -> Sums:
    """The sums of a model that answers the mean over samples to each of them."""
    counted = np.split(sums[..., :-1], 3, axis=-1)
    return np.concatenate([counted[1], counted[1], counted[2], sums[..., -1:]], axis=-1)
