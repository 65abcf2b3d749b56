"""Detections: overlap of boxes, suppression of repeats, and F1 against the original's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts, real_numbers
from onnxcompress.measure.rates import lost, ratio
from onnxcompress.measure.tally import RowTally, Sums

Boxes = NDArray[np.float64]

# From this score on a detection is one, and from the lower one it is enough to confirm another: a
# score that moves by a hair across the threshold is no error.
SCORE: Final = 0.25
CONFIRMING_SCORE: Final = 0.20
# Overlap from which on two boxes are of the same thing.
OVERLAP: Final = 0.5
# Boxes compared with the rest at once.
_BLOCK: Final = 256


def overlaps(left: Boxes, right: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every two boxes, shape (left, right).

    Equal boxes overlap by 1, even those without any area.

    Args:
        left: x1, y1, x2, y2; shape (left, 4).
        right: the same, shape (right, 4).
    """
    a, b = left[:, None], right[None]
    # Infinite boxes have no area to speak of: they overlap with nothing but their equals.
    with np.errstate(invalid="ignore", over="ignore"):
        width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
        height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        union = _areas(left)[:, None] + _areas(right)[None] - common
        shares: NDArray[np.float64] = common / np.where(union > 0, union, np.inf)
    shares[np.isnan(shares)] = 0
    shares[(a == b).all(axis=-1)] = 1
    return shares


def suppress(
    boxes: Boxes, scores: NDArray[np.float64], classes: np.ndarray, iou: float = 0.45
) -> NDArray[np.int64]:
    """Non-maximum suppression within each class: greedy, from the highest score.

    A box goes if it overlaps with a kept one of its class by more than `iou`, as in ONNX's
    NonMaxSuppression. Filter by score before.

    Args:
        boxes: x1, y1, x2, y2; shape (boxes, 4).
        scores: shape (boxes,); of equal ones the first comes first.
        classes: shape (boxes,).
        iou: the largest overlap that two boxes may have.

    Returns:
        The places of the boxes that are kept, by falling score.
    """
    order = np.argsort(-scores, kind="stable")
    kept = [_kept(boxes, order[classes[order] == name], iou) for name in np.unique(classes[order])]
    found = np.sort(np.argsort(order)[np.concatenate([np.empty(0, np.int64), *kept])])
    places: NDArray[np.int64] = order[found]
    return places


def labelled_boxes(labels: np.ndarray | Sequence[np.ndarray]) -> list[Boxes]:
    """Boxes of each sample from an array that pads them: class, x1, y1, x2, y2.

    Args:
        labels: shape (samples, boxes, 5), or a list of (boxes, 5); rows with a class below 0 are
            padding.

    Returns:
        For each sample an array (its boxes, 5).

    Raises:
        DataError: they have another shape, or a box ends before it begins.
    """
    found = []
    for number, label in enumerate(labels):
        rows = real_numbers(np.asarray(label), "labels")
        if rows.ndim != 2 or rows.shape[1] != 5:
            raise DataError(
                f"labels of sample {number} have shape {rows.shape}; boxes are rows of class, x1, "
                f"y1, x2, y2, padded with class -1"
            )
        rows = rows[rows[:, 0] >= 0]
        wrong = np.flatnonzero((rows[:, 3:] < rows[:, 1:3]).any(axis=1) | ~(rows == rows).all(1))
        if len(wrong):
            raise DataError(
                f"a box of sample {number} is {rows[wrong[0], 1:].tolist()}, which ends before it "
                f"begins; store x1, y1, x2, y2 as corners, not as a size"
            )
        found.append(rows)
    return found


def detection_tally(output: Sequence[Boxes], reference: Sequence[Boxes]) -> RowTally:
    """Found, originals, right, candidates, lost, gained; (samples, 6).

    By falling score, each detection takes the original one of its class that it overlaps with most,
    by 0.5 at least, and that none has taken. Originals of score 0.25 count, and are found if a
    detection of 0.20 took them; detections of 0.25 count, and are right if they took an original
    one of 0.20. Lost are originals of 0.25 whose detection is below it, gained the other way round.

    Args:
        output: the candidate's, for each sample (detections, 6): x1, y1, x2, y2, score, class.
        reference: the original's, alike.

    Raises:
        DataError: they have another shape, or there are not as many of both.
    """
    check_counts(output, reference)
    rows = np.empty((len(output), 6))
    for row, ours, theirs in zip(rows, output, reference, strict=True):
        left, right = confirming(ours), confirming(theirs)
        taker, taken = matched(left, right)
        is_right, is_found = left[taker, 4] >= SCORE, right[taken, 4] >= SCORE
        row[:] = (
            is_found.sum(),
            (right[:, 4] >= SCORE).sum(),
            is_right.sum(),
            (left[:, 4] >= SCORE).sum(),
            (is_found & ~is_right).sum(),
            (is_right & ~is_found).sum(),
        )
    return RowTally(rows)


def detection_f1(sums: Sums) -> NDArray[np.float64]:
    """Found and right over originals and candidates, (resamples, 6) -> (resamples,).

    That is F1, the harmonic mean of both shares weighted by how many there are. Where neither has
    any detection it is 1 and proves nothing: see the second sum. Scores that move by a hair across
    the threshold are no error as long as they move both ways; what goes one way beyond what chance
    has to do with it (two deviations) is one.
    """
    over, under = sums[..., 0] + sums[..., 2], sums[..., 1] + sums[..., 3]
    lost, gained = sums[..., 4], sums[..., 5]
    one_way = np.maximum(np.abs(lost - gained) - 2 * np.sqrt(lost + gained), 0)
    return ratio(over - one_way, under, 1.0)


detection_drop: Final = lost(detection_f1)


def confirming(detections: np.ndarray) -> Boxes:
    """Those of score 0.20 and more, by falling score."""
    rows = check_detections(detections)
    rows = rows[rows[:, 4] >= CONFIRMING_SCORE]
    return rows[np.argsort(-rows[:, 4], kind="stable")]


def matched(left: Boxes, right: Boxes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of places of boxes of one class that overlap by a half, one-to-one.

    Args:
        left: those that take, by falling score, the best of the right that is left.
        right: those that are taken.
    """
    near = overlaps(left[:, :4], right[:, :4])
    near[left[:, None, 5] != right[None, :, 5]] = 0
    pairs = []
    for taker in np.flatnonzero((near >= OVERLAP).any(axis=1)):
        taken = int(near[taker].argmax())
        if near[taker, taken] >= OVERLAP:
            pairs.append((taker, taken))
            near[:, taken] = 0
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def check_detections(detections: np.ndarray) -> Boxes:
    """Detections of one sample, shape (detections, 6).

    Raises:
        DataError: they have another shape.
    """
    rows = real_numbers(np.asarray(detections), "detections")
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise DataError(
            f"detections have shape {rows.shape}; rows of x1, y1, x2, y2, score, class are needed"
        )
    return rows


def _areas(boxes: Boxes) -> NDArray[np.float64]:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas: NDArray[np.float64] = sides[:, 0] * sides[:, 1]
    return areas


def _kept(boxes: Boxes, order: NDArray[np.int64], iou: float) -> NDArray[np.int64]:
    """Those of `order`, by falling score, that stay."""
    kept = []
    while len(order) > 1:
        head, rest = order[:_BLOCK], order[_BLOCK:]
        near = overlaps(boxes[head], boxes[head]) > iou
        stays = np.ones(len(head), dtype=bool)
        for place in range(len(head)):
            if stays[place]:
                stays[place + 1 :] &= ~near[place, place + 1 :]
        kept.append(head[stays])
        order = rest
        if len(rest):
            order = rest[~(overlaps(boxes[kept[-1]], boxes[rest]) > iou).any(axis=0)]
    return np.concatenate([*kept, order])
