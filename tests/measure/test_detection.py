import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.measure.detection import (
    detection_drop,
    detection_f1,
    detection_tally,
    labelled_boxes,
    overlaps,
    suppress,
)
from onnxcompress.measure.detection_fit import fit, fit_tally
from onnxcompress.measure.tally import Tally

RNG = np.random.default_rng(13)


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def _boxes(count: int, spread: float = 60) -> np.ndarray:
    corner = RNG.random((count, 2)) * spread
    return np.concatenate([corner, corner + 10 + 30 * RNG.random((count, 2))], axis=1)


def _detections(count: int, classes: int = 3) -> np.ndarray:
    scores, names = RNG.random((count, 1)), RNG.integers(0, classes, (count, 1))
    return np.concatenate([_boxes(count), scores, names], axis=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return float(common / (np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2]) - common))


def test_overlaps() -> None:
    left, right = _boxes(20), _boxes(30)
    want = [[_overlap(a, b) for b in right] for a in left]
    np.testing.assert_allclose(overlaps(left, right), want, atol=1e-14)
    assert overlaps(left[:0], right).shape == (0, 30)


def test_overlaps_of_strange_boxes() -> None:
    boxes = np.array(
        [[1, 1, 1, 1], [3, 3, 2, 2], [0, 0, np.inf, np.inf], [-np.inf, 0, 5, 5], [0, 0, 5, 5]]
    )
    np.testing.assert_array_equal(overlaps(boxes, boxes), np.eye(5))


@pytest.mark.parametrize(("count", "classes", "limit"), [(0, 1, 0.5), (60, 1, 0.3), (900, 4, 0.45)])
def test_suppression(count: int, classes: int, limit: float) -> None:
    boxes, names = _boxes(count, spread=200), RNG.integers(0, classes, count)
    scores = np.round(RNG.random(count), 2)
    kept: list[int] = []
    for place in np.argsort(-scores, kind="stable"):
        same = [k for k in kept if names[k] == names[place]]
        if all(_overlap(boxes[k], boxes[place]) <= limit for k in same):
            kept.append(int(place))
    np.testing.assert_array_equal(suppress(boxes, scores, names, limit), kept)


def _counts(ours: np.ndarray, theirs: np.ndarray) -> list[int]:
    left = sorted((d for d in ours.tolist() if d[4] >= 0.20), key=lambda d: -d[4])
    right = [d for d in theirs.tolist() if d[4] >= 0.20]
    free, found, correct, lost, gained = list(range(len(right))), 0, 0, 0, 0
    for own in left:
        near = {
            i: _overlap(np.array(own[:4]), np.array(right[i][:4]))
            for i in free
            if right[i][5] == own[5]
        }
        best = max(near, key=lambda i: near[i], default=None)
        if best is not None and near[best] >= 0.5:
            free.remove(best)
            found += right[best][4] >= 0.25
            correct += own[4] >= 0.25
            lost += right[best][4] >= 0.25 > own[4]
            gained += own[4] >= 0.25 > right[best][4]
    count = [sum(d[4] >= 0.25 for d in side) for side in (right, left)]
    return [found, count[0], correct, count[1], lost, gained]


def test_f1_against_the_originals() -> None:
    theirs = [_detections(k) for k in RNG.integers(0, 25, 40)]
    ours = []
    for rows in theirs:
        moved = np.concatenate([rows[3:], _detections(2)])
        moved[:, :4] += RNG.standard_normal((len(moved), 4))
        moved[:, 4] += 0.1 * RNG.standard_normal(len(moved))
        ours.append(moved)
    want = np.array([_counts(a, b) for a, b in zip(ours, theirs, strict=True)])
    rows = detection_tally(ours, theirs).sums(np.eye(40, dtype=np.int64))
    np.testing.assert_array_equal(rows, want)
    sums = _once(detection_tally(ours, theirs))
    total = want.sum(axis=0)
    value = (total[0] + total[2]) / (total[1] + total[3])
    assert detection_f1(sums) == pytest.approx(value)
    own = _once(detection_tally(theirs, [rows[::-1] for rows in theirs]))
    assert detection_f1(own) == 1
    assert detection_drop(sums, own) == pytest.approx(1 - value)


@pytest.mark.parametrize(
    ("ours", "theirs", "row"),
    [
        (0.26, 0.24, (0, 0, 1, 1, 0, 1)),
        (0.24, 0.26, (1, 1, 0, 0, 1, 0)),
        (0.19, 0.26, (0, 1, 0, 0, 0, 0)),
        (0.26, 0.19, (0, 0, 0, 1, 0, 0)),
        (0.25, 0.25, (1, 1, 1, 1, 0, 0)),
        (0.10, 0.10, (0, 0, 0, 0, 0, 0)),
    ],
)
def test_a_score_that_crosses_the_threshold(
    ours: float, theirs: float, row: tuple[int, ...]
) -> None:
    box = [0.0, 0, 10, 10]
    tally = detection_tally([np.array([[*box, ours, 1]])], [np.array([[*box, theirs, 1]])])
    np.testing.assert_array_equal(_once(tally), [row])


def _scored(scores: np.ndarray) -> list[np.ndarray]:
    """One box a sample, the same in all."""
    return [np.array([[0.0, 0, 10, 10, score, 1]]) for score in scores]


def test_scores_that_cross_the_threshold_one_way_are_lost() -> None:
    low, high = np.full(50, 0.24), np.full(50, 0.26)
    both = np.concatenate([low, high])
    swapped = detection_tally(_scored(both[::-1]), _scored(both))
    assert detection_f1(_once(swapped)) == 1
    # Of 50, two deviations of which are 14.1, chance explains so many.
    fallen = detection_tally(_scored(np.concatenate([low, low])), _scored(both))
    assert detection_f1(_once(fallen)) == pytest.approx(1 - (50 - 2 * 50**0.5) / 50)
    few = detection_tally(_scored(low[:4]), _scored(high[:4]))
    assert detection_f1(_once(few)) == 1


def test_fit_is_the_worst_of_overlap_and_scores() -> None:
    theirs = _scored(np.linspace(0.3, 0.9, 100))
    moved = [rows + np.array([1.0, 0, 1, 0, 0, 0]) for rows in theirs]
    assert fit(_once(fit_tally(moved, theirs))) == pytest.approx(9 / 11)
    up_and_down = np.where(np.arange(100) % 2, 0.04, -0.04)
    noisy = [rows + np.eye(6)[4] * each for rows, each in zip(theirs, up_and_down, strict=True)]
    assert fit(_once(fit_tally(noisy, theirs))) == pytest.approx(1 - 0.04)
    # Four times what all share, less the standard error of noise of this size: a tenth of it.
    lower = [rows - np.eye(6)[4] * 0.04 for rows in theirs]
    assert fit(_once(fit_tally(lower, theirs))) == pytest.approx(1 - 4 * 0.04 * 0.9)
    one = fit_tally(lower[:1], theirs[:1])
    assert fit(_once(one)) == pytest.approx(1 - 0.04)
    assert fit(_once(fit_tally(theirs, theirs))) == 1


def test_equal_boxes_find_each_other() -> None:
    twice = np.array([[0, 0, 10, 10, s, 0] for s in (0.9, 0.22, 0.5)] + [[5, 5, 5, 5, 0.9, 0]])
    assert detection_f1(_once(detection_tally([twice], [twice[::-1]]))) == 1
    np.testing.assert_array_equal(_once(detection_tally([twice], [twice])), [[3, 3, 3, 3, 0, 0]])


def test_without_detections() -> None:
    none, some = np.empty((0, 6)), np.array([[0, 0, 9, 9, 0.5, 1]])
    assert detection_f1(_once(detection_tally([none], [none]))) == 1
    assert detection_f1(_once(detection_tally([some], [none]))) == 0
    assert detection_f1(_once(detection_tally([none], [some]))) == 0
    other = some + np.eye(6)[5]
    assert detection_f1(_once(detection_tally([other], [some]))) == 0
    with pytest.raises(DataError, match="rows of x1, y1, x2, y2, score, class are needed"):
        detection_tally([np.empty((0, 5))], [none])
    with pytest.raises(DataError, match="outputs for 1 samples and 2"):
        detection_tally([none], [none, none])


def test_labels_of_boxes() -> None:
    labels = np.full((2, 3, 5), -1.0)
    labels[0, 1] = [2, 1, 2, 3, 4]
    first, second = labelled_boxes(labels)
    np.testing.assert_array_equal(first, [[2, 1, 2, 3, 4]])
    assert second.shape == (0, 5)
    with pytest.raises(DataError, match="boxes are rows of class, x1, y1, x2, y2"):
        labelled_boxes(np.zeros((2, 5)))
    labels[1, 0] = [0, 50, 60, 20, 20]
    with pytest.raises(DataError, match=r"a box of sample 1 is .* which ends before it begins"):
        labelled_boxes(labels)
