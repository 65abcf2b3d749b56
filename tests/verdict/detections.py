"""Detectors: decoded and suppressed as their packages do it, then compared box by box."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.verdict.support import Case, Outputs, Quality

_OVERLAP = 0.5
"""Two boxes of a class are one object if they share this much of what both cover."""

_LAYOUT_SIZE = (800, 608)
_LAYOUT_STRIDES = (8, 16, 32, 64)
_LAYOUT_SCORES = ("transpose_0", "transpose_2", "transpose_4", "transpose_6")
_LAYOUT_BOXES = ("transpose_1", "transpose_3", "transpose_5", "transpose_7")
_CHARACTER_SIDE = 416

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Corners [boxes, 4], scores [boxes] and classes [boxes], best first."""


def intersection_over_union(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much one box and each of others share; corners, [4] and [boxes, 4]."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    found: np.ndarray = shared / np.maximum(areas - shared, 1e-9)
    return found


def suppressed(boxes: np.ndarray, scores: np.ndarray, least: float, most_overlap: float) -> Found:
    """The best class of each box, without those that a better box of the class covers.

    Args:
        boxes: [boxes, 4], corners.
        scores: [boxes, classes].
        least: score of what counts.
        most_overlap: of two boxes that both stay.
    """
    classes, best = scores.argmax(axis=1), scores.max(axis=1)
    left = [row for row in np.argsort(-best, kind="stable") if best[row] >= least]
    kept: list[int] = []
    for row in left:
        rivals = [each for each in kept if classes[each] == classes[row]]
        if not rivals or intersection_over_union(boxes[row], boxes[rivals]).max() <= most_overlap:
            kept.append(int(row))
    return boxes[kept], best[kept], classes[kept]


def f1(original: list[Found], candidate: list[Found]) -> float:
    """Twice the objects found in common over all that both found, pictures taken together."""
    common = count = 0
    for (boxes, _, classes), (others, _, other_classes) in zip(original, candidate, strict=True):
        count += len(boxes) + len(others)
        free = np.ones(len(boxes), dtype=bool)
        for box, kind in zip(others, other_classes, strict=True):
            overlaps = np.where(free & (classes == kind), intersection_over_union(box, boxes), 0.0)
            if len(boxes) and overlaps.max() >= _OVERLAP:
                free[overlaps.argmax()] = False
                common += 1
    return 2 * common / count if count else 1.0


def quality_of(decode: Callable[[Mapping[str, Any]], Found]) -> Quality:
    """F1 of the candidate's objects against the original's."""

    def quality(original: Outputs, candidate: Outputs) -> float:
        return f1([decode(each) for each in original], [decode(each) for each in candidate])

    return quality


def _corners(middles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1)


def _grid(height: int, width: int) -> np.ndarray:
    """The column and row of each cell, [cells, 2], row by row."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


def people(outputs: Mapping[str, Any]) -> Found:
    """YOLOv8: middle and size in pixels, then a score for each class; a column for each box."""
    found = outputs["output0"][0].T
    return suppressed(_corners(found[:, :2], found[:, 2:4]), found[:, 4:], 0.25, 0.45)


def characters(outputs: Mapping[str, Any]) -> Found:
    """YOLOX: middle within the cell, logarithm of the size, objectness, score of the one class."""
    found = outputs["output"][0].astype(np.float64)
    cells, strides = [], []
    for stride in (8, 16, 32):
        side = _CHARACTER_SIDE // stride
        cells.append(_grid(side, side))
        strides.append(np.full((side * side, 1), stride))
    scale = np.concatenate(strides)
    middles = (found[:, :2] + np.concatenate(cells)) * scale
    # Noise may ask for a box of any size.
    sizes = np.exp(np.minimum(found[:, 2:4], 20)) * scale
    return suppressed(_corners(middles, sizes), found[:, 4:5] * found[:, 5:], 0.25, 0.45)


def layout(outputs: Mapping[str, Any]) -> Found:
    """PicoDet: a score for each class, and how far each side is as a distribution of 8 steps."""
    boxes, scores = [], []
    for stride, score, box in zip(_LAYOUT_STRIDES, _LAYOUT_SCORES, _LAYOUT_BOXES, strict=True):
        height, width = (-(-side // stride) for side in _LAYOUT_SIZE)
        logits = outputs[f"{box}.tmp_0"][0].astype(np.float64).reshape(-1, 4, 8)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        sides = shares @ np.arange(8.0) * stride
        middles = (_grid(height, width) + 0.5) * stride
        boxes.append(np.concatenate([middles - sides[:, :2], middles + sides[:, 2:]], axis=1))
        scores.append(outputs[f"{score}.tmp_0"][0])
    return suppressed(np.concatenate(boxes), np.concatenate(scores), 0.5, 0.5)


CASES = {
    "nudenet": Case(kinds={"output0": "detections"}, quality=quality_of(people)),
    "ddddocr-detector": Case(kinds={"output": "detections"}, quality=quality_of(characters)),
    "layout": Case(
        # No output can be decoded without the others.
        kinds={f"{name}.tmp_0": "map" for name in (*_LAYOUT_SCORES, *_LAYOUT_BOXES)},
        quality=quality_of(layout),
    ),
}
