"""The measures that verdicts are checked with, on small cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.verdict import choices, detections, embeddings, numbers, segments, texts


def found(*boxes: tuple[float, float, float, float], kind: int = 0) -> detections.Found:
    corners = np.array(boxes, dtype=float).reshape(-1, 4)
    return corners, np.ones(len(boxes)), np.full(len(boxes), kind)


def test_boxes_that_share_a_third() -> None:
    share = detections.intersection_over_union(
        np.array([0.0, 0, 2, 2]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])
    )
    assert share == pytest.approx([1 / 3, 0])


def test_weaker_boxes_of_a_class_give_way() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    scores = np.array([[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.1, 0.0]])
    kept, best, classes = detections.suppressed(boxes, scores, 0.25, 0.45)
    assert kept.tolist() == [[0, 0, 10, 10], [1, 0, 11, 10]]
    assert best.tolist() == [0.9, 0.7]
    assert classes.tolist() == [0, 1]


def test_f1_counts_what_both_found() -> None:
    box, far = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)
    assert detections.f1([found(box, far)], [found(box, far)]) == 1
    assert detections.f1([found(box, far)], [found(box)]) == pytest.approx(2 / 3)
    # Two answers for one object: one of them is wrong.
    assert detections.f1([found(box)], [found(box, box)]) == pytest.approx(2 / 3)
    assert detections.f1([found(box)], [found(box, kind=1)]) == 0
    assert detections.f1([found(box)], [found()]) == 0
    assert detections.f1([found()], [found()]) == 1


def test_repeats_and_blanks_are_no_characters() -> None:
    steps = np.eye(4)[[0, 1, 1, 0, 1, 2, 2, 0, 3]]
    assert texts.read(steps, blank=0) == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("abc", "xabc", 1)],
)
def test_edits(first: str, second: str, count: int) -> None:
    assert texts.edits([*map(ord, first)], [*map(ord, second)]) == count


def test_r2_is_that_of_the_worst_number() -> None:
    wanted = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    assert numbers.r2(wanted, wanted) == 1
    assert numbers.r2(wanted, np.ones((3, 2))) == 0
    off = wanted + np.array([0, 0.5])
    assert numbers.r2(wanted, off) == pytest.approx(1 - 0.75 / 2)
    assert numbers.pooled_r2(wanted, off) == pytest.approx(1 - 0.75 / 4)


def test_dice() -> None:
    assert numbers.dice(np.array([True, True, False]), np.array([True, False, False])) == 2 / 3
    assert numbers.dice(np.zeros(3, dtype=bool), np.zeros(3, dtype=bool)) == 1


def test_areas_of_each_class_count_alike() -> None:
    wanted = np.array([0, 0, 0, 0, 1])
    assert segments.mean_intersection(wanted, wanted) == 1
    assert segments.mean_intersection(wanted, np.array([0, 0, 0, 1, 1])) == (3 / 4 + 1 / 2) / 2
    assert segments.mean_intersection(wanted, np.zeros(5)) == (4 / 5 + 0) / 2


def test_odds_are_told_apart_near_nought() -> None:
    wanted = [{"4195": np.array([[1 - each, each]])} for each in (0.0001, 0.001, 0.01)]
    mean = [{"4195": np.array([[0.9963, 0.0037]])}] * 3
    assert choices.of_decency(wanted, wanted) == 1
    assert choices.of_decency(wanted, mean) == 0


def test_neighbours_by_direction() -> None:
    angles = np.arange(12) * 0.1
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (1 + np.arange(12))[:, None]
    assert {*embeddings.neighbours(vectors)[0].tolist()} == {1, 2, 3, 4, 5}
