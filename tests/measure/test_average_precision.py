import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from onnxcompress.errors import DataError
from onnxcompress.measure.average_precision import (
    AveragePrecisionTally,
    average_precision_drop,
    average_precision_tally,
    average_precision_value,
)
from onnxcompress.measure.tally import Tally

RNG = np.random.default_rng(17)


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def _boxes(count: int) -> np.ndarray:
    corner = RNG.random((count, 2)) * 300
    return np.concatenate([corner, corner + 10 + 80 * RNG.random((count, 2))], axis=1)


def _images(
    count: int, classes: int, wrong: int, digits: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Detections, some of which are labelled boxes that were moved, and labels."""
    found, labels = [], []
    for boxes in RNG.integers(0, 9, count):
        names = RNG.integers(0, classes, (boxes, 1))
        labels.append(np.concatenate([names, _boxes(boxes)], axis=1).astype(np.float64))
        moved = np.repeat(labels[-1], 2, axis=0)[RNG.random(2 * boxes) < 0.6]
        moved[:, 1:] += 5 * RNG.standard_normal((len(moved), 4))
        # pycocotools passes over boxes that end before they begin.
        moved[:, 3:] = np.maximum(moved[:, 3:], moved[:, 1:3])
        more = np.concatenate([RNG.integers(0, classes, (wrong, 1)), _boxes(wrong)], axis=1)
        rows = np.concatenate([moved, more])
        scores = np.round(RNG.random(len(rows)), digits)
        found.append(np.column_stack([rows[:, 1:], scores, rows[:, 0]]))
    return found, labels


def _size(box: np.ndarray) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _coco(found: list[np.ndarray], labels: list[np.ndarray]) -> list[float]:
    """Of pycocotools: over all overlaps, and at 0.5."""
    truth = [
        {
            "image_id": image + 1,
            "category_id": int(row[0]),
            "bbox": _size(row[1:]),
            "area": float(np.prod(row[3:] - row[1:3])),
            "iscrowd": 0,
        }
        for image, rows in enumerate(labels)
        for row in rows
    ]
    results = [
        {
            "image_id": image + 1,
            "category_id": int(row[5]),
            "bbox": _size(row[:4]),
            "score": float(row[4]),
        }
        for image, rows in enumerate(found)
        for row in rows
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image + 1} for image in range(len(labels))],
            "annotations": [{"id": place + 1, **one} for place, one in enumerate(truth)],
            "categories": [{"id": name} for name in range(20)],
            "info": {},
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats[:2]]


# Scores of few digits are often equal, within an image and between images.
@pytest.mark.parametrize(
    ("count", "classes", "wrong", "digits"),
    [(1, 1, 0, 9), (50, 1, 5, 9), (50, 6, 5, 9), (60, 3, 8, 1), (5, 1, 250, 2), (40, 15, 0, 9)],
)
def test_equals_pycocotools(count: int, classes: int, wrong: int, digits: int) -> None:
    found, labels = _images(count, classes, wrong, digits)
    labels[0] = np.array([[0, 10, 10, 50, 50.0]])
    found[0] = np.concatenate([found[0], [[11, 10, 50, 50, 0.5, 0]]])
    want = _coco(found, labels)
    value = average_precision_value(_once(average_precision_tally(found, labels)))
    assert value == pytest.approx(want[0], abs=1e-9)
    half = average_precision_value(_once(average_precision_tally(found, labels, (0.5,))))
    assert half == pytest.approx(want[1], abs=1e-9)


def test_weights_are_repeated_images() -> None:
    found, labels = _images(30, 4, 4, 1)
    # Scores equal between images alone: copies of an image interleave what is equal within.
    for rows in found:
        rows[:, 4] += 0.001 * np.arange(len(rows))
    weights = RNG.multinomial(30, np.full(30, 1 / 30), 6).astype(np.int64)
    values = average_precision_value(average_precision_tally(found, labels).sums(weights))
    for value, weight in zip(values, weights, strict=True):
        drawn = np.repeat(np.arange(30), weight)
        want, _ = _coco([found[i] for i in drawn], [labels[i] for i in drawn])
        assert value == pytest.approx(want, abs=1e-9)


def test_recalls_of_whole_hundredths() -> None:
    labels = [np.array([[0, 0, 0, 10, 10.0]])] * 100
    scores = np.linspace(0.9, 0.1, 100)
    found = [np.array([[0, 0, 10, 10, s, 0], [20, 20, 30, 30, s, 0]]) for s in scores]
    value = average_precision_value(_once(average_precision_tally(found[:70], labels[:70])))
    assert value == pytest.approx(_coco(found[:70], labels[:70])[0], abs=1e-9)
    found[70:] = [np.empty((0, 6))] * 30
    for keep in (7, 14, 29, 57):
        part = [*found[:keep], *[np.empty((0, 6))] * (100 - keep)]
        value = average_precision_value(_once(average_precision_tally(part, labels)))
        assert value == pytest.approx(_coco(part, labels)[0], abs=1e-9)


def test_joined_is_the_whole() -> None:
    found, labels = _images(30, 4, 4, 2)
    weights = RNG.integers(0, 3, (4, 30))
    pieces = [slice(0, 1), slice(1, 12), slice(12, None)]
    parts = [average_precision_tally(found[s], labels[s]) for s in pieces]
    whole = average_precision_tally(found, labels).sums(weights)
    np.testing.assert_array_equal(AveragePrecisionTally.joined(parts).sums(weights), whole)


def test_nothing_found_or_nothing_there() -> None:
    labels = [np.array([[0, 0, 0, 10, 10.0]]), np.empty((0, 5))]
    none, some = np.empty((0, 6)), np.array([[0, 0, 10, 10, 0.5, 0]])
    assert _once(average_precision_tally([none, some], labels)) == 0
    perfect = average_precision_tally([some, none], labels)
    assert _once(perfect) == 1
    assert perfect.sums(np.array([[0, 2]])) == 0
    drop = average_precision_drop(np.array([[0.25]]), _once(perfect))
    assert drop == 0.75
    with pytest.raises(DataError, match="no sample has a labelled box"):
        _once(average_precision_tally([some], [np.empty((0, 5))]))
