"""How detectors give their boxes: as raw heads, as rows, or as several outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.judging.readings import Chunks
from onnxcompress.measure.detection import suppress

Boxes = NDArray[np.float64]

LEAST_SCORE: Final = 0.05
"""Boxes below it take no part in anything."""

_STRIDES: Final = (8, 16, 32)


class BoxForm(Enum):
    """What the four numbers of a box are; x and y may trade places, which no overlap can tell."""

    CORNERS = "two corners"
    CENTRE = "x, y of the centre, width, height"
    GRID = "offsets from grid cells, logarithms of sizes"


def corners(boxes: Boxes, form: BoxForm) -> Boxes:
    """Boxes as x1, y1, x2, y2; shape (boxes, 4)."""
    if form is BoxForm.GRID:
        boxes = _off_the_grid(boxes)
    if form in (BoxForm.CENTRE, BoxForm.GRID):
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes


def grid_of(anchors: int) -> NDArray[np.float64] | None:
    """Cells and strides of a square picture with one anchor a cell, (anchors, 3), or None.

    The three grids of strides 8, 16 and 32 hold 21/1024 of the picture's pixels (YOLOX, Ge et al.
    2021).
    """
    side = round((anchors * 1024 / 21) ** 0.5)
    if side % _STRIDES[-1] or sum((side // stride) ** 2 for stride in _STRIDES) != anchors:
        return None
    cells = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: side // stride, : side // stride]
        steps = np.full(rows.size, stride)
        cells.append(np.stack([columns.ravel(), rows.ravel(), steps], axis=1))
    return np.concatenate(cells).astype(np.float64)


def _off_the_grid(boxes: Boxes) -> Boxes:
    grid = grid_of(len(boxes))
    if grid is None:
        return boxes
    centres = (boxes[:, :2] + grid[:, :2]) * grid[:, 2:]
    with np.errstate(over="ignore"):
        sizes = np.exp(boxes[:, 2:]) * grid[:, 2:]
    return np.concatenate([centres, sizes], axis=1)


def _fractions(logits: Boxes, *, among_all: bool) -> Boxes:
    """Scores between 0 and 1, by softmax or sigmoid."""
    if among_all:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))


def _kept(boxes: Boxes, scores: Boxes, form: BoxForm) -> NDArray[np.float64]:
    """Detections (x1, y1, x2, y2, score, class) of anchors, each by its best class; suppressed."""
    classes = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), classes]
    # Decoding goes by the place of an anchor, so it comes before any is left out.
    found = corners(boxes, form)
    told = best >= LEAST_SCORE
    found, best, classes = found[told], best[told], classes[told]
    kept = suppress(found, best, classes)
    return np.concatenate([found[kept], best[kept, None], classes[kept, None]], axis=1)


@dataclass(frozen=True, kw_only=True)
class RawHead:
    """All anchors in one output: box, perhaps objectness, one score for each class.

    Attributes:
        feature_axis: of a sample, 0 or 1.
        form: of the boxes.
        has_objectness: whether the fifth number multiplies the scores.
    """

    feature_axis: int
    form: BoxForm
    has_objectness: bool
    keeps_shape: bool = True

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> list[NDArray[np.float64]]:
        """Detections of each sample."""
        (name,) = outputs
        found = []
        for sample in chunks[name]:
            plane = sample.reshape([n for n in sample.shape if n != 1] or [1])
            table = plane.astype(np.float64)
            table = table.T if self.feature_axis == 0 else table
            scores = table[:, 4:]
            if self.has_objectness:
                scores = scores[:, :1] * scores[:, 1:] if scores.shape[1] > 1 else scores
            found.append(_kept(table[:, :4], scores, self.form))
        return found


@dataclass(frozen=True, kw_only=True)
class SplitHead:
    """All anchors, boxes (anchors, 4) in the first output and scores in the second.

    Attributes:
        form: of the boxes.
        score_axis: of a sample's scores, along which classes lie.
        background: the class that is none, whose scores do not count; None if there is none.
        are_logits: whether scores are yet to be made fractions: by a softmax where one class is
            background, by a sigmoid elsewhere.
    """

    form: BoxForm
    score_axis: int
    background: int | None = None
    are_logits: bool = False
    keeps_shape: bool = True

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> list[NDArray[np.float64]]:
        """Detections of each sample."""
        found = []
        for boxes, scores in zip(chunks[outputs[0]], chunks[outputs[1]], strict=True):
            table = np.moveaxis(scores, self.score_axis, -1).astype(np.float64)
            table = table.reshape(-1, table.shape[-1])
            if self.are_logits:
                table = _fractions(table, among_all=self.background is not None)
            if self.background is not None:
                table = np.delete(table, self.background, axis=1)
            found.append(_kept(boxes.astype(np.float64).reshape(-1, 4), table, self.form))
        return found


@dataclass(frozen=True, kw_only=True)
class Suppressed:
    """What is left after suppression: boxes, scores and, in a third output, classes.

    Attributes:
        form: of the boxes.
        counted: whether the last output says how many rows count.
    """

    form: BoxForm
    has_classes: bool
    counted: bool = False
    keeps_shape: bool = False

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> list[NDArray[np.float64]]:
        """Detections of each sample."""
        found = []
        for index in range(len(chunks[outputs[0]])):
            boxes = chunks[outputs[0]][index].astype(np.float64).reshape(-1, 4)
            scores = chunks[outputs[1]][index].astype(np.float64).reshape(-1)
            classes = np.zeros(len(scores))
            if self.has_classes:
                classes = chunks[outputs[2]][index].astype(np.float64).reshape(-1)
            rows = min(len(boxes), len(scores), len(classes))
            if self.counted:
                rows = min(rows, int(chunks[outputs[-1]][index].reshape(-1)[0]))
            columns = [corners(boxes[:rows], self.form), scores[:rows, None], classes[:rows, None]]
            table = np.concatenate(columns, axis=1)
            found.append(table[table[:, 4] >= LEAST_SCORE])
        return found


@dataclass(frozen=True, kw_only=True)
class DetectionRows:
    """What is left after suppression, in rows of one output.

    Attributes:
        box: the column where the four numbers of the box begin.
        score: the column of the score.
        label: the column of the class; None where a second output holds it, or there is only one.
    """

    box: int
    score: int
    label: int | None
    keeps_shape: bool = False

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> list[NDArray[np.float64]]:
        """Detections of each sample."""
        found = []
        for index, sample in enumerate(chunks[outputs[0]]):
            table = sample.astype(np.float64).reshape(-1, sample.shape[-1])
            classes = np.zeros(len(table))
            if self.label is not None:
                classes = table[:, self.label]
            elif len(outputs) > 1:
                classes = chunks[outputs[1]][index].astype(np.float64).reshape(-1)
            columns = [*range(self.box, self.box + 4), self.score]
            picked = np.concatenate([table[:, columns], classes[:, None]], axis=1)
            found.append(picked[picked[:, 4] >= LEAST_SCORE])
        return found


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """Boxes and scores of all anchors, and the rows (batch, class, anchor) that were selected.

    NonMaxSuppression-10 gives such rows.
    """

    form: BoxForm
    keeps_shape: bool = False

    def read(self, chunks: Chunks, outputs: Sequence[str]) -> list[NDArray[np.float64]]:
        """Detections of each sample."""
        found = []
        for boxes, scores, selected in zip(*(chunks[name] for name in outputs), strict=True):
            table = boxes.astype(np.float64).reshape(-1, 4)
            by_class = scores.astype(np.float64).reshape(-1, len(table))
            _, classes, anchors = selected.reshape(-1, 3).T
            picked = by_class[classes, anchors]
            found.append(
                np.concatenate(
                    [corners(table[anchors], self.form), picked[:, None], classes[:, None]], axis=1
                )
            )
        return found
