"""What metrics do not look at is said where it is lost, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcompress.errors import DataError
from tests.judging import scenes
from tests.judging.scripted import Scripted, judge

RNG = np.random.default_rng(21)
SAMPLES = 120
COLUMNS = RNG.standard_normal((SAMPLES, 1000)) * 3 + RNG.permutation(1000) * 3
FEW = COLUMNS[:, :12]
VECTORS = RNG.standard_normal((SAMPLES, 600))


def _with_a_dead_column(values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[:, 7] = values[:, 7].mean()
    return changed


@pytest.mark.parametrize(
    ("name", "values", "metric"), [("y", COLUMNS, "r2"), ("embedding", VECTORS, "similarity")]
)
def test_a_dead_column_of_many(name: str, values: np.ndarray, metric: str) -> None:
    original = Scripted({name: values})
    (output,) = judge(original, {name: _with_a_dead_column(values)}).outputs
    assert output.metric == metric
    assert output.drop <= 0.01 + 1e-9
    assert output.unseen == (
        f"{metric} over {values.shape[1]} columns sees little of 1 (7) where less than half of "
        f"what varies is kept",
    )
    near = values + 0.01 * RNG.standard_normal(values.shape)
    assert judge(original, {name: near}).outputs[0].unseen == ()


def test_a_dead_column_of_few_is_the_metric_s() -> None:
    (output,) = judge(Scripted({"y": FEW}), {"y": _with_a_dead_column(FEW)}).outputs
    assert output.drop == pytest.approx(1)
    assert output.unseen == ()


def test_columns_that_hardly_vary_are_left_out() -> None:
    values = COLUMNS.copy()
    values[:, 7] = 1e-3 * RNG.standard_normal(SAMPLES) + values[:, 7].mean()
    (output,) = judge(Scripted({"y": values}), {"y": _with_a_dead_column(values)}).outputs
    assert output.unseen == ()


def test_a_class_that_fills_hardly_any_place() -> None:
    classes = RNG.integers(0, 3, (12, 64, 64))
    classes[:, 5, 5:7] = 4
    original = Scripted({"segments": classes})
    (output,) = judge(original, {"segments": np.where(classes == 4, 0, classes)}).outputs
    assert output.metric == "miou"
    assert output.drop < 0.01
    assert output.unseen == (
        "classes that fill less than 0.1 % of all places do not count, and of 4 less than half is "
        "found",
    )
    others = np.where((classes == 2) & (RNG.random(classes.shape) < 0.1), 1, classes)
    assert judge(original, {"segments": others}).outputs[0].unseen == ()


def test_scores_of_labelled_boxes_that_are_all_lower() -> None:
    rng = np.random.default_rng(12)
    scene = scenes.scenes(rng, 24)
    labels = np.full((24, 5, 5), -1, np.float32)
    for label, rows in zip(labels, scene.objects, strict=True):
        label[: len(rows)] = rows[:, [5, 0, 1, 2, 3]]
    original = Scripted(scenes.yolov8(scene))
    lower = scenes.yolov8(scenes.scores_a_tenth_lower(scene, rng))
    (output,) = judge(original, lower, {"labels": labels}).outputs
    assert output.metric == "map"
    assert output.drop == pytest.approx(0, abs=1e-9)
    (remark,) = output.unseen
    assert "lower than the original's on average, which map does not see" in remark
    (same,) = judge(original, scenes.yolov8(scene), {"labels": labels}).outputs
    assert same.unseen == ()


def test_a_metric_that_does_not_look_at_boxes() -> None:
    rng = np.random.default_rng(3)
    scene = scenes.scenes(rng, 24)
    wrong = scenes.tenth_missed(scene, rng)
    original = Scripted(scenes.yolov8(scene))
    for chosen in ({"metric": "cosine"}, {"judged": ["output0=cosine"]}):
        (output,) = judge(original, scenes.yolov8(wrong), **chosen).outputs  # type: ignore[arg-type]
        assert output.metric == "cosine"
        assert output.unseen == (
            "cosine compares all numbers that a detector gives, and not the boxes that are found, "
            "as detection-f1 does",
        )
    default = judge(original, scenes.yolov8(wrong))
    assert default.outputs[0].unseen == ()


def test_outputs_that_give_boxes_together_need_a_metric_of_boxes() -> None:
    scene = scenes.scenes(np.random.default_rng(3), 24)
    answers = scenes.rcnn(scene)
    original = Scripted(answers)
    with pytest.raises(DataError, match="give boxes together, which cosine cannot compare"):
        judge(original, answers, metric="cosine")
    with pytest.raises(DataError, match="give boxes together, which cosine cannot compare"):
        judge(original, answers, judged=["boxes=cosine", "scores", "labels"])
