"""Detectors of every family: what is wrong in boxes, scores or classes is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import pytest

from onnxcompress.budget import Budget
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.score import Verdict
from tests.judging import scenes
from tests.judging.scenes import Scenes, Written
from tests.judging.scripted import Scripted, judge

BUDGET: Final = Budget(0.01)
PICTURES: Final = 24


@pytest.mark.parametrize("family", scenes.FAMILIES, ids=lambda family: family.__name__)
def test_wrong_detections_are_refused_and_near_ones_are_not(
    family: Callable[[Scenes], Written],
) -> None:
    rng = np.random.default_rng(3)
    scene = scenes.scenes(rng, PICTURES)
    original = Scripted(family(scene))
    close = judge(original, family(scenes.near(scene, rng)))
    (output,) = close.outputs
    assert output.kind is OutputKind.DETECTIONS, output
    assert close.verdict(BUDGET) is not Verdict.FAILED, output
    assert judge(original, family(scene)).drop == 0
    for damage in (*scenes.WRONG, *scenes.SLY):
        if family is scenes.one_class and damage is scenes.classes_swapped:
            continue
        score = judge(original, family(damage(scene, rng)))
        assert score.verdict(BUDGET) is Verdict.FAILED, (damage.__name__, score.worst)


@pytest.mark.parametrize("family", scenes.FAMILIES, ids=lambda family: family.__name__)
def test_pictures_without_objects_prove_nothing(family: Callable[[Scenes], Written]) -> None:
    rng = np.random.default_rng(5)
    nothing = scenes.scenes(rng, PICTURES, empty=True)
    original = Scripted(family(nothing))
    same = judge(original, family(nothing))
    assert same.drop == 0
    assert same.verdict(BUDGET) is Verdict.HELD
    found = judge(original, family(scenes.scenes(rng, PICTURES)))
    assert found.verdict(BUDGET) is Verdict.FAILED


@pytest.mark.parametrize("family", scenes.UNDECODED, ids=lambda family: family.__name__)
def test_heads_that_wait_for_decoding(family: Callable[[Scenes], Written]) -> None:
    rng = np.random.default_rng(6)
    scene = scenes.scenes(rng, PICTURES)
    answers = family(scene)
    original = Scripted(answers)
    noisy = {}
    for name, values in answers.items():
        axis = 1 + int(np.argmin(values.shape[1:])) if values.ndim == 3 else 1
        others = tuple(each for each in range(1, values.ndim) if each != axis)
        spread = np.sqrt(np.square(values - values.mean(axis=0)).mean(axis=(0, *others)))
        shape = [1] * values.ndim
        shape[axis] = len(spread)
        noise = rng.standard_normal(values.shape) * spread.reshape(shape) / 100
        noisy[name] = (values + noise).astype(np.float32)
    close = judge(original, noisy)
    assert all(each.kind is OutputKind.MAP for each in close.outputs), close
    assert close.verdict(BUDGET) is not Verdict.FAILED, close.worst
    for damage in scenes.WRONG:
        if family is scenes.pose and damage in (scenes.classes_swapped, scenes.class_never_found):
            continue
        score = judge(original, family(damage(scene, rng)))
        assert score.verdict(BUDGET) is Verdict.FAILED, (damage.__name__, score.worst)


def test_labels_a_metric_of_choice_and_a_kind_of_choice() -> None:
    rng = np.random.default_rng(12)
    scene = scenes.scenes(rng, PICTURES)
    labels = np.full((PICTURES, 5, 5), -1, np.float32)
    for label, rows in zip(labels, scene.objects, strict=True):
        label[: len(rows)] = rows[:, [5, 0, 1, 2, 3]]
    original = Scripted(scenes.yolov8(scene))
    wrong = scenes.yolov8(scenes.class_never_found(scene, rng))
    labelled = judge(original, wrong, {"labels": labels})
    assert labelled.worst.metric == "map"
    assert labelled.worst.labelled
    assert labelled.verdict(BUDGET) is Verdict.FAILED
    for metric in ("map", "detection-f1"):
        score = judge(original, wrong, metric=metric)
        assert score.worst.metric == "detection-f1"
        assert score.verdict(BUDGET) is Verdict.FAILED
    told = judge(original, wrong, judged=["output0=detections"])
    assert told.worst.kind is OutputKind.DETECTIONS
    assert told.verdict(BUDGET) is Verdict.FAILED


def test_one_class_and_one_picture_at_a_time() -> None:
    rng = np.random.default_rng(11)
    scene = scenes.scenes(rng, PICTURES, classes=1)
    for family in (scenes.yolov8, scenes.yolov5, scenes.ssd, scenes.yolov4, scenes.rt_detr):
        original = Scripted(family(scene))
        close = judge(original, family(scenes.near(scene, rng)))
        assert close.worst.kind is OutputKind.DETECTIONS, family
        assert close.verdict(BUDGET) is not Verdict.FAILED, (family, close.worst)
        for damage in (scenes.boxes_shifted, scenes.scores_constant, scenes.tenth_missed):
            wrong = judge(original, family(damage(scene, rng)))
            assert wrong.verdict(BUDGET) is Verdict.FAILED, (family, damage)


def test_boxes_found_again_elsewhere_in_the_list_are_the_same() -> None:
    rng = np.random.default_rng(2)
    scene = scenes.scenes(rng, PICTURES)
    turned = replace(scene, objects=[rows[::-1] for rows in scene.objects])
    for family in (scenes.rcnn, scenes.rows_of_seven, scenes.efficient_nms):
        assert judge(Scripted(family(scene)), family(turned)).drop == 0


def test_indices_alone_are_matched_row_by_row() -> None:
    rng = np.random.default_rng(8)
    scene = scenes.scenes(rng, PICTURES)
    rows = scenes.bare_indices(scene)["selected_indices"]
    original = Scripted({"selected_indices": rows})
    total = sum(map(len, rows))
    less = [rows[0][1:], *rows[1:]]
    score = judge(original, {"selected_indices": less})
    assert 0 < score.drop < 3 / total
    assert judge(original, {"selected_indices": [each[::-1] for each in rows]}).drop == 0
    for damage in (scenes.classes_swapped, scenes.scores_constant, scenes.shuffled):
        wrong = scenes.bare_indices(damage(scene, rng))
        assert judge(original, wrong).verdict(BUDGET) is Verdict.FAILED
