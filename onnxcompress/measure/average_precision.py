"""Mean average precision of detections as COCO counts it, on resampled images.

T.-Y. Lin et al., "Microsoft COCO: Common objects in context", ECCV 2014, and pycocotools' COCOeval
(all areas, 100 detections of a class in an image, no crowds). Matches are found once for each
image; precision and recall then follow from weights. Recall rises at right detections alone, and
precision is highest there, so only these are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from onnxcompress.errors import DataError
from onnxcompress.measure.arrays import check_counts
from onnxcompress.measure.detection import Boxes, check_detections, overlaps
from onnxcompress.measure.rates import finished, lost, mean_of_defined, ratio
from onnxcompress.measure.tally import Sums, Weights
from onnxcompress.measure.weighing import Floats, by_sample, running_sums

# Computed as pycocotools does, so that a recall on the edge falls on the same side.
COCO_OVERLAPS: Final = tuple(np.linspace(0.5, 0.95, 10).tolist())
_RECALLS: Final = np.linspace(0.0, 1.0, 101)
_MOST_DETECTIONS: Final = 100
# Weights that are worked on at once; fewer resamples than these make short rows, which are slow.
_BLOCK: Final = 1 << 20
_LEAST_RESAMPLES: Final = 64


class _Class(NamedTuple):
    """Detections of one class by falling score.

    Attributes:
        image_of: the image of each detection, up to the last right one.
        points: places of the detections that are right at any overlap.
        hits: whether they are right, shape (overlaps, points).
        labelled: the image of each labelled box.
    """

    image_of: NDArray[np.int64]
    points: NDArray[np.int64]
    hits: NDArray[np.bool_]
    labelled: NDArray[np.int64]


class AveragePrecisionTally:
    """Detections with what they hit; gives the mean average precision itself.

    Args:
        samples: how many images there are.
        found: image, class and score of each detection, images in order and scores falling within;
            shape (detections, 3).
        hits: whether it hits a box that is labelled, by overlap; shape (detections, overlaps).
        labelled: image and class of each labelled box, shape (boxes, 2).
    """

    def __init__(
        self,
        samples: int,
        found: NDArray[np.float64],
        hits: NDArray[np.bool_],
        labelled: NDArray[np.float64],
    ) -> None:
        self._samples = samples
        self._found = found
        self._hits = hits
        self._labelled = labelled

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return self._samples

    def sums(self, weights: Weights) -> Sums:
        """The mean over overlaps and classes that are labelled, shape (resamples, 1).

        Raises:
            DataError: there is no labelled box at all.
        """
        if not self._classes:
            raise DataError("no sample has a labelled box, so map proves nothing; give labels")
        precisions = np.empty((len(self._classes), len(weights)))
        longest = max(len(one.image_of) for one in self._classes)
        step = max(_LEAST_RESAMPLES, _BLOCK // max(1, longest))
        for begin in range(0, len(weights), step):
            rows = slice(begin, begin + step)
            by_image = by_sample(weights[rows], longest)
            for precision, one in zip(precisions, self._classes, strict=True):
                precision[rows] = _average_precision(one, by_image)
        return mean_of_defined(precisions, 0.0)[:, None]

    @cached_property
    def _classes(self) -> list[_Class]:
        classes = []
        order = np.argsort(-self._found[:, 2], kind="stable")
        class_of = self._found[order, 1]
        for name in np.unique(self._labelled[:, 1]):
            own = order[class_of == name]
            points = np.flatnonzero(self._hits[own].any(axis=1))
            own = own[: points[-1] + 1] if len(points) else own[:0]
            classes.append(
                _Class(
                    image_of=self._found[own, 0].astype(np.int64),
                    points=points,
                    hits=np.ascontiguousarray(self._hits[own[points]].T),
                    labelled=self._labelled[self._labelled[:, 1] == name, 0].astype(np.int64),
                )
            )
        return classes

    @classmethod
    def joined(cls, tallies: Sequence[Self]) -> Self:
        """The samples of several tallies in order."""
        begins = np.cumsum([0, *(tally._samples for tally in tallies)])
        pairs = list(zip(tallies, begins[:-1], strict=True))
        return cls(
            int(begins[-1]),
            np.concatenate([tally._found + np.array([begin, 0, 0]) for tally, begin in pairs]),
            np.concatenate([tally._hits for tally in tallies]),
            np.concatenate([tally._labelled + np.array([begin, 0]) for tally, begin in pairs]),
        )


def average_precision_tally(
    output: Sequence[Boxes],
    labels: Sequence[Boxes],
    thresholds: Sequence[float] = COCO_OVERLAPS,
) -> AveragePrecisionTally:
    """For the mean average precision against labels; the value itself, (resamples, 1).

    Args:
        output: for each sample (detections, 6): x1, y1, x2, y2, score, class.
        labels: for each sample (boxes, 5): class, x1, y1, x2, y2; see `labelled_boxes`.
        thresholds: overlaps at which a detection hits; (0.5,) for what is called mAP50.

    Raises:
        DataError: they have another shape, or there are not as many of both.
    """
    check_counts(output, labels)
    least = np.minimum(np.asarray(thresholds, dtype=np.float64), 1 - 1e-10)
    found: list[NDArray[np.float64]] = [np.empty((0, 3))]
    hits: list[NDArray[np.bool_]] = [np.empty((0, len(least)), dtype=bool)]
    labelled: list[NDArray[np.float64]] = [np.empty((0, 2))]
    for image, (ours, boxes) in enumerate(zip(output, labels, strict=True)):
        rows = _highest(check_detections(ours))
        near = overlaps(rows[:, :4], boxes[:, 1:])
        near[rows[:, None, 5] != boxes[None, :, 0]] = -1
        hits.append(_hits(near, least))
        found.append(np.stack([np.full(len(rows), image), rows[:, 5], rows[:, 4]], axis=1))
        labelled.append(np.stack([np.full(len(boxes), image), boxes[:, 0]], axis=1))
    return AveragePrecisionTally(
        len(output), np.concatenate(found), np.concatenate(hits), np.concatenate(labelled)
    )


average_precision_value: Final = finished
average_precision_drop: Final = lost(finished)


def _highest(detections: Boxes) -> Boxes:
    """By falling score, as many of each class as count."""
    rows: Boxes = detections[np.argsort(-detections[:, 4], kind="stable")]
    if len(rows) <= _MOST_DETECTIONS:
        return rows
    by_class = np.argsort(rows[:, 5], kind="stable")
    begins = np.searchsorted(rows[by_class, 5], rows[by_class, 5])
    count = np.arange(len(rows)) < begins + _MOST_DETECTIONS
    kept: Boxes = rows[np.sort(by_class[count])]
    return kept


def _hits(near: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each detection takes a box that none before has, shape (detections, overlaps).

    It takes the one that it overlaps with most; of equal ones the last, as in pycocotools.
    """
    hits = np.zeros((len(near), len(least)), dtype=bool)
    if not near.shape[1]:
        return hits
    free = np.ones((len(least), near.shape[1]), dtype=bool)
    each = np.arange(len(least))
    for place in np.flatnonzero(near.max(axis=1) >= least.min()):
        open_to = np.where(free, near[place], -1.0)[:, ::-1]
        best = open_to.argmax(axis=1)
        hits[place] = open_to[each, best] >= least
        taken = near.shape[1] - 1 - best
        free[each[hits[place]], taken[hits[place]]] = False
    return hits


def _average_precision(one: _Class, by_image: Floats) -> NDArray[np.float64]:
    """Of one class, the mean over overlaps; NaN for a resample without labels of it.

    Args:
        one: its detections.
        by_image: weights, shape (images, resamples).
    """
    boxes = by_image[one.labelled].sum(axis=0, dtype=np.float64)
    empty = np.where(boxes > 0, 0.0, np.nan)
    if not len(one.points):
        return empty
    weights = by_image[one.image_of]
    so_far = running_sums(weights)[one.points].astype(np.float64)
    right = weights[one.points]
    gained: NDArray[np.float64] = np.zeros(by_image.shape[1])
    for hit in one.hits:
        if not hit.any():
            continue
        true = running_sums(right[hit]).astype(np.float64)
        precision = ratio(true, so_far[hit], 0.0)
        # What can still be had further on, at a higher recall.
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        recall = true / np.where(boxes > 0, boxes, np.inf)
        whole = (100 * recall + 1e-9).astype(np.int64)
        # As pycocotools rounds, some recalls of exactly a hundredth do not reach it.
        reached = whole + (_RECALLS[whole] <= recall)
        gained += np.einsum("ij,ij->j", np.diff(reached, axis=0, prepend=0), precision)
    return gained / (len(_RECALLS) * len(one.hits)) + empty
