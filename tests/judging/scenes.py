"""What detectors of every family say of made-up pictures, and what goes wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from onnxcompress.measure.detection import suppress

Rng = np.random.Generator
SIDE: Final = 160
"""Pixels along a picture; three grids of strides 8, 16 and 32 have 525 cells in it."""
CLASSES: Final = 4


@dataclass(frozen=True)
class Scenes:
    """What a detector's anchors say: of pictures, before any suppression.

    Attributes:
        boxes: x, y of the centre, width, height in pixels; (pictures, anchors, 4).
        scores: (pictures, anchors, classes), all low but near an object.
        cells: column, row and stride of each anchor, (anchors, 3).
        objects: for each picture (objects, 6): x1, y1, x2, y2, score, class, best first.
    """

    boxes: np.ndarray
    scores: np.ndarray
    cells: np.ndarray
    objects: list[np.ndarray]


def scenes(rng: Rng, pictures: int = 60, classes: int = CLASSES, empty: bool = False) -> Scenes:
    """Pictures of one to five objects; of none if `empty`."""
    cells = np.concatenate(
        [
            np.stack([*(g.ravel() for g in np.mgrid[: SIDE // s, : SIDE // s][::-1])], axis=1)
            for s in (8, 16, 32)
        ]
    ).astype(float)
    strides = np.repeat([8.0, 16.0, 32.0], [(SIDE // s) ** 2 for s in (8, 16, 32)])
    cells = np.column_stack([cells, strides])
    centres = (cells[:, :2] + 0.5) * strides[:, None]
    count = len(cells)
    boxes = np.empty((pictures, count, 4))
    boxes[..., :2] = centres + rng.standard_normal((pictures, count, 2)) * strides[:, None] / 3
    boxes[..., 2:] = np.exp(rng.uniform(0.5, 1.5, (pictures, count, 2))) * strides[:, None]
    scores = 0.01 * rng.exponential(size=(pictures, count, classes)).clip(max=6)
    objects = []
    for at in range(pictures):
        rows = []
        for _ in range(0 if empty else rng.integers(1, 6)):
            size = rng.uniform(16, 60, 2)
            centre = rng.uniform(size / 2, SIDE - size / 2)
            kind, best = rng.integers(classes), rng.uniform(0.45, 0.95)
            near = np.argsort(np.abs(centres - centre).sum(axis=1))[:5]
            falling = best * np.linspace(1, 0.4, len(near))
            boxes[at, near] = rng.normal([*centre, *size], 1, (len(near), 4))
            scores[at, near, kind] = np.maximum(scores[at, near, kind], falling)
            rows.append([*(centre - size / 2), *(centre + size / 2), best, kind])
        found = np.array(rows).reshape(-1, 6)
        objects.append(found[np.argsort(-found[:, 4])])
    return Scenes(boxes, scores, cells, objects)


Damage = Callable[[Scenes, Rng], Scenes]


def _moved(scene: Scenes, change: Callable[[np.ndarray], np.ndarray]) -> Scenes:
    """With other boxes, by centre and size; those of the objects likewise."""
    objects = []
    for rows in scene.objects:
        first, last = rows[:, :2], rows[:, 2:4]
        box = change(np.concatenate([(first + last) / 2, last - first], axis=1))
        half = box[:, 2:] / 2
        corners = [box[:, :2] - half, box[:, :2] + half]
        objects.append(np.concatenate([*corners, rows[:, 4:]], axis=1))
    return replace(scene, boxes=change(scene.boxes), objects=objects)


def _scored(scene: Scenes, change: Callable[[np.ndarray], np.ndarray]) -> Scenes:
    objects = []
    for rows in scene.objects:
        changed = rows.copy()
        changed[:, 4] = change(rows[:, 4])
        objects.append(changed)
    return replace(scene, scores=change(scene.scores), objects=objects)


def _labelled(scene: Scenes, classes: np.ndarray) -> Scenes:
    """With classes in another order."""
    objects = []
    for rows in scene.objects:
        changed = rows.copy()
        changed[:, 5] = classes[rows[:, 5].astype(int)]
        objects.append(changed)
    return replace(scene, scores=scene.scores[..., np.argsort(classes)], objects=objects)


def boxes_shifted(scene: Scenes, _rng: Rng) -> Scenes:
    """By five per cent of the picture."""
    return _moved(scene, lambda box: box + np.array([0.05 * SIDE, 0.05 * SIDE, 0, 0]))


def boxes_shifted_by_their_size(scene: Scenes, _rng: Rng) -> Scenes:
    def change(box: np.ndarray) -> np.ndarray:
        moved = box.copy()
        moved[..., :2] += 0.05 * box[..., 2:]
        return moved

    return _moved(scene, change)


def boxes_grown(scene: Scenes, _rng: Rng) -> Scenes:
    return _moved(scene, lambda box: box * np.array([1, 1, 1.1, 1.1]))


def axes_swapped(scene: Scenes, _rng: Rng) -> Scenes:
    return _moved(scene, lambda box: box[..., [1, 0, 3, 2]])


def scores_halved(scene: Scenes, _rng: Rng) -> Scenes:
    return _scored(scene, lambda score: score / 2)


def scores_a_tenth_lower(scene: Scenes, _rng: Rng) -> Scenes:
    return _scored(scene, lambda score: score * 0.9)


def scores_sharpened(scene: Scenes, _rng: Rng) -> Scenes:
    """Low ones lower and high ones higher, so that the mean stays."""
    return _scored(scene, lambda score: 1 / (1 + np.exp(-1.5 * logit(score))))


def scores_inverted(scene: Scenes, _rng: Rng) -> Scenes:
    return _scored(scene, lambda score: 1 - score)


def scores_constant(scene: Scenes, _rng: Rng) -> Scenes:
    """Nothing is found at all."""
    objects = [rows[:0] for rows in scene.objects]
    return replace(scene, scores=np.full_like(scene.scores, 0.01), objects=objects)


def classes_swapped(scene: Scenes, _rng: Rng) -> Scenes:
    return _labelled(scene, np.roll(np.arange(scene.scores.shape[-1]), 1))


def class_never_found(scene: Scenes, _rng: Rng) -> Scenes:
    scores = scene.scores.copy()
    scores[..., 0] = 0.001
    return replace(scene, scores=scores, objects=[rows[rows[:, 5] != 0] for rows in scene.objects])


def first_for_all(scene: Scenes, _rng: Rng) -> Scenes:
    return replace(
        scene,
        boxes=np.broadcast_to(scene.boxes[:1], scene.boxes.shape),
        scores=np.broadcast_to(scene.scores[:1], scene.scores.shape),
        objects=scene.objects[:1] * len(scene.objects),
    )


def shuffled(scene: Scenes, rng: Rng) -> Scenes:
    order = rng.permutation(len(scene.objects))
    objects = [scene.objects[at] for at in order]
    return replace(scene, boxes=scene.boxes[order], scores=scene.scores[order], objects=objects)


def at_random(scene: Scenes, rng: Rng) -> Scenes:
    return scenes(rng, len(scene.objects), scene.scores.shape[-1])


def tenth_missed(scene: Scenes, rng: Rng) -> Scenes:
    """One object in ten is not found."""
    objects, scores = [], scene.scores.copy()
    for at, rows in enumerate(scene.objects):
        gone = rng.random(len(rows)) < 0.1
        for row in rows[gone]:
            centre, kind = (row[:2] + row[2:4]) / 2, int(row[5])
            near = np.abs(scene.boxes[at, :, :2] - centre).sum(axis=1) < 8
            scores[at, near, kind] *= 0.1
        objects.append(rows[~gone])
    return replace(scene, scores=scores, objects=objects)


WRONG: Final[tuple[Damage, ...]] = (
    boxes_shifted,
    boxes_shifted_by_their_size,
    boxes_grown,
    axes_swapped,
    scores_halved,
    scores_inverted,
    scores_constant,
    classes_swapped,
    class_never_found,
    first_for_all,
    shuffled,
    at_random,
    tenth_missed,
)


SLY: Final[tuple[Damage, ...]] = (scores_a_tenth_lower, scores_sharpened)
"""Seen in scores between 0 and 1 alone: on logits they are less than 1 % of what varies."""


def near(scene: Scenes, rng: Rng) -> Scenes:
    """As int8 leaves boxes and scores: off by half a pixel, and by one per cent."""
    moved = _moved(scene, lambda box: box + rng.normal(0, 0.5, box.shape))
    return _scored(moved, lambda s: (s + rng.normal(0, 0.01, s.shape) * (s > 0.1)).clip(0, 1))


def logit(shares: np.ndarray) -> np.ndarray:
    held = np.clip(shares, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(held / (1 - held)))


def corners(boxes: np.ndarray) -> np.ndarray:
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


Written = dict[str, Any]
"""A detector's outputs: arrays, or lists of one array for each picture."""


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)


def yolov8(scene: Scenes) -> Written:
    table = np.concatenate([scene.boxes, scene.scores], axis=-1)
    return {"output0": _single(table.transpose(0, 2, 1))}


def yolov8_normalised(scene: Scenes) -> Written:
    return yolov8(replace(scene, boxes=scene.boxes / SIDE))


def yolov8_last(scene: Scenes) -> Written:
    """The same turned about, without objectness."""
    return {"predictions": yolov8(scene)["output0"].transpose(0, 2, 1)}


def yolov5(scene: Scenes) -> Written:
    best = np.sqrt(scene.scores.max(axis=-1, keepdims=True))
    table = np.concatenate([scene.boxes, best, scene.scores / best], axis=-1)
    return {"output": _single(table)}


def yolov5_normalised(scene: Scenes) -> Written:
    return {"495": yolov5(replace(scene, boxes=scene.boxes / SIDE))["output"]}


def yolov6(scene: Scenes) -> Written:
    """Objectness is always 1."""
    ones = np.ones_like(scene.scores[..., :1])
    return {"outputs": _single(np.concatenate([scene.boxes, ones, scene.scores], axis=-1))}


def yolox(scene: Scenes) -> Written:
    stride = scene.cells[:, 2:]
    offsets = scene.boxes[..., :2] / stride - scene.cells[:, :2]
    sizes = np.log(np.maximum(scene.boxes[..., 2:], 1) / stride)
    best = np.sqrt(scene.scores.max(axis=-1, keepdims=True))
    return {"output": _single(np.concatenate([offsets, sizes, best, scene.scores / best], axis=-1))}


def yolov4(scene: Scenes) -> Written:
    boxes = corners(scene.boxes)[:, :, None] / SIDE
    return {"boxes": _single(boxes), "confs": _single(scene.scores)}


def two_heads(scene: Scenes) -> Written:
    """Boxes and scores in two outputs without telling names."""
    return {"1183": _single(corners(scene.boxes)), "1190": _single(scene.scores)}


def ssd(scene: Scenes) -> Written:
    """Softmax, the background first."""
    scores = np.concatenate([np.zeros_like(scene.scores[..., :1]), scene.scores], axis=-1)
    scores[..., 0] = np.maximum(1 - scores.sum(axis=-1), 0)
    scores /= scores.sum(axis=-1, keepdims=True)
    return {"scores": _single(scores), "boxes": _single(corners(scene.boxes) / SIDE)}


def detr(scene: Scenes) -> Written:
    """Logits of a softmax, no object last; boxes by centre and size, of the picture."""
    held = ssd(scene)["scores"].astype(float)
    scores = np.log(np.maximum(np.roll(held, -1, axis=-1), 1e-4)) + 5
    scores += np.linspace(-1, 1, scores.shape[1])[:, None]
    return {"logits": _single(scores), "pred_boxes": _single(scene.boxes / SIDE)}


def rt_detr(scene: Scenes) -> Written:
    """Logits of a sigmoid for each class."""
    return {"logits": _single(logit(scene.scores)), "pred_boxes": _single(scene.boxes / SIDE)}


def rcnn(scene: Scenes) -> Written:
    rows = scene.objects
    return {
        "boxes": [_single(each[:, :4]) for each in rows],
        "labels": [each[:, 5].astype(np.int64) for each in rows],
        "scores": [_single(each[:, 4]) for each in rows],
    }


def rcnn_unnamed(scene: Scenes) -> Written:
    return dict(zip(("6379", "6381", "6383"), rcnn(scene).values(), strict=True))


def one_class(scene: Scenes) -> Written:
    """Without an output of classes."""
    held = rcnn(scene)
    return {"dets": held["boxes"], "scores": held["scores"]}


def _padded(scene: Scenes, rows: int = 20) -> np.ndarray:
    table = np.zeros((len(scene.objects), rows, 6))
    for row, found in zip(table, scene.objects, strict=True):
        row[: len(found)] = found
    return table


def tensorflow(scene: Scenes) -> Written:
    """Boxes as y1, x1, y2, x2 of the picture, numbers all float."""
    table = _padded(scene)
    counts = np.array([len(each) for each in scene.objects])
    return {
        "detection_boxes": _single(table[..., [1, 0, 3, 2]] / SIDE),
        "detection_classes": _single(table[..., 5] + 1),
        "detection_scores": _single(table[..., 4]),
        "num_detections": _single(counts),
    }


def efficient_nms(scene: Scenes) -> Written:
    table = _padded(scene)
    return {
        "num_dets": np.array([[len(each)] for each in scene.objects], dtype=np.int32),
        "det_boxes": _single(table[..., :4]),
        "det_scores": _single(table[..., 4]),
        "det_classes": table[..., 5].astype(np.int32),
    }


def end_to_end(scene: Scenes) -> Written:
    """Rows of six, padded with zeros, as YOLOv10 gives them."""
    return {"output0": _single(_padded(scene))}


def rows_of_seven(scene: Scenes) -> Written:
    """Picture, box, class, score, as many as there are."""
    return {
        "output": [
            _single(np.column_stack([np.zeros(len(each)), each[:, :4], each[:, 5], each[:, 4]]))
            for each in scene.objects
        ]
    }


def caffe(scene: Scenes) -> Written:
    """Picture, class, score, box of the picture: (1, 1, rows, 7) for each."""
    return {
        "detection_out": [
            _single(
                np.column_stack(
                    [np.zeros(len(each)), each[:, 5] + 1, each[:, 4], each[:, :4] / SIDE]
                )
            )[None, None]
            for each in scene.objects
        ]
    }


def boxes_with_score(scene: Scenes) -> Written:
    """mmdetection: boxes and score in five columns, and labels."""
    table = _padded(scene)
    return {"dets": _single(table[..., :5]), "labels": table[..., 5].astype(np.int64)}


def selected(scene: Scenes) -> Written:
    """NonMaxSuppression's rows beside the boxes and scores that it read."""
    found = []
    for boxes, scores in zip(corners(scene.boxes), scene.scores, strict=True):
        anchors, kinds = np.nonzero(scores > 0.25)
        kept = suppress(boxes[anchors], scores[anchors, kinds], kinds)
        rows = [np.zeros(len(kept)), kinds[kept], anchors[kept]]
        found.append(np.stack(rows, axis=1).astype(np.int64))
    return {
        "boxes": _single(corners(scene.boxes)),
        "scores": _single(scene.scores.transpose(0, 2, 1)),
        "selected_indices": found,
    }


def bare_indices(scene: Scenes) -> Written:
    return {"selected_indices": selected(scene)["selected_indices"]}


FAMILIES: Final[tuple[Callable[[Scenes], Written], ...]] = (
    yolov8,
    yolov8_normalised,
    yolov8_last,
    yolov5,
    yolov5_normalised,
    yolov6,
    yolox,
    yolov4,
    two_heads,
    ssd,
    detr,
    rt_detr,
    rcnn,
    rcnn_unnamed,
    one_class,
    tensorflow,
    efficient_nms,
    end_to_end,
    rows_of_seven,
    caffe,
    boxes_with_score,
    selected,
)


def pose(scene: Scenes) -> Written:
    """A score and 17 points for each box, x, y and a chance each."""
    rng = np.random.default_rng(9)
    best = scene.scores.max(axis=-1, keepdims=True)
    off = rng.normal(0, 0.2, (17, 2)) * scene.boxes[:, :, None, 2:]
    points = scene.boxes[:, :, None, :2] + off
    chances = np.broadcast_to(0.9 * best[..., None], (*points.shape[:-1], 1))
    flat = np.concatenate([points, chances], axis=-1).reshape(*best.shape[:2], -1)
    table = np.concatenate([scene.boxes, best, flat], axis=-1)
    return {"output0": _single(table.transpose(0, 2, 1))}


def masks(scene: Scenes) -> Written:
    """32 weights of masks for each box."""
    weights = scene.scores @ np.random.default_rng(9).standard_normal((CLASSES, 32))
    table = np.concatenate([scene.boxes, scene.scores, weights], axis=-1)
    return {"output0": _single(table.transpose(0, 2, 1))}


def ssd_undecoded(scene: Scenes) -> Written:
    """Offsets from anchors, and logarithms of sizes; scores a softmax is yet to make."""
    stride = scene.cells[:, 2:]
    places = 5 * (scene.boxes[..., :2] / stride - scene.cells[:, :2] - 0.5)
    sizes = 5 * np.log(np.maximum(scene.boxes[..., 2:], 1) / stride / 3)
    scores = np.log(ssd(scene)["scores"] + 1e-4)
    return {"scores": _single(scores), "loc": _single(np.concatenate([places, sizes], axis=-1))}


def face_undecoded(scene: Scenes) -> Written:
    """Softmax scores, offsets, and five points of each face."""
    held = ssd_undecoded(scene)
    points = held["loc"][..., [0, 1] * 5] + np.float32(0.3)
    return {"conf": ssd(scene)["scores"], "loc": held["loc"], "landmarks": points}


def levels(scene: Scenes) -> Written:
    """Raw heads of convolutions, one for each stride: (4 + classes, rows, columns)."""
    stride = scene.cells[:, 2:]
    places = logit((scene.boxes[..., :2] / stride - scene.cells[:, :2]) / 2 + 0.25)
    sizes = np.log(np.maximum(scene.boxes[..., 2:], 1) / stride)
    table = np.concatenate([places, sizes, logit(scene.scores)], axis=-1)
    found, begin = {}, 0
    for step in (8, 16, 32):
        side = SIDE // step
        part = table[:, begin : begin + side**2].transpose(0, 2, 1)
        found[f"conv{step}"] = _single(part.reshape(len(table), -1, side, side))
        begin += side**2
    return found


UNDECODED: Final[tuple[Callable[[Scenes], Written], ...]] = (
    pose,
    masks,
    ssd_undecoded,
    face_undecoded,
    levels,
)
"""Heads that are judged as numbers, one channel at a time."""
