"""Maps of classes and of values: rare classes, masks, pictures, points, heat maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pytest

from onnxcompress.budget import Budget
from onnxcompress.judging.score import Verdict
from tests.judging import outputs
from tests.judging.outputs import SAMPLES, Rng, sigmoid, softmax
from tests.judging.scripted import Scripted, judge
from tests.judging.test_adversaries import constant, dead, inverted, noisy, shuffled

BUDGET: Final = Budget(0.01)


def _classes(rng: Rng) -> np.ndarray:
    return np.asarray(outputs.segments(rng).argmax(axis=1))


def test_a_rare_class_that_is_never_found_is_refused() -> None:
    rng = np.random.default_rng(0)
    scores = outputs.segments(rng)
    probabilities = softmax(scores, 1)
    without = probabilities.copy()
    without[:, 4] = 0
    lowered = scores.copy()
    lowered[:, 4] -= 20
    classes = scores.argmax(axis=1)
    assert (classes == 4).mean() < 0.01
    for name, values, wrong in (
        ("output", probabilities, without),
        ("output", scores, lowered),
        ("seg_logits", scores, lowered),
        ("output", classes, np.where(classes == 4, 0, classes)),
        ("argmax", classes[:, None].astype(np.int32), np.where(classes == 4, 0, classes)[:, None]),
    ):
        score = judge(Scripted({name: values}), {name: wrong.astype(values.dtype)})
        assert score.verdict(BUDGET) is Verdict.FAILED, score.worst


def test_a_map_of_whole_numbers_may_differ_in_a_few_places() -> None:
    rng = np.random.default_rng(1)
    classes = _classes(rng)
    near = np.where(rng.random(classes.shape) < 0.001, 0, classes)
    score = judge(Scripted({"output": classes}), {"output": near})
    assert score.worst.metric == "miou"
    # Few places, but as much of the rare class as of any other.
    assert 0 < score.drop < 0.01
    shifted = judge(Scripted({"output": classes}), {"output": np.roll(classes, 1, axis=2)})
    assert shifted.verdict(BUDGET) is Verdict.FAILED


def _picture(rng: Rng) -> np.ndarray:
    return (rng.random((SAMPLES, 3, 16, 16)) * 255).astype(np.float32)


def _binary(rng: Rng) -> np.ndarray:
    held = outputs.segments(rng)[:, 1:2] > 3
    return sigmoid(10 * held - 5 + rng.normal(0, 0.5, held.shape))


def _heat(rng: Rng) -> np.ndarray:
    places = np.mgrid[:16, :16][:, None, None]
    apart = np.square(places - rng.uniform(0, 16, (2, SAMPLES, 17, 1, 1))).sum(axis=0)
    return np.asarray(np.exp(-apart / 4).astype(np.float32))


def _points(rng: Rng) -> np.ndarray:
    """Seventeen points: x, y and a chance of being seen."""
    return rng.random((SAMPLES, 17, 3)).astype(np.float32)


def _recording(rng: Rng) -> np.ndarray:
    fading = np.exp(-np.linspace(0, 3, 800))
    return (rng.standard_normal((SAMPLES, 1, 800)) * fading).astype(np.float32)


def _channel_last(rng: Rng) -> np.ndarray:
    return outputs.segments(rng).transpose(0, 2, 3, 1).copy()


@pytest.mark.parametrize(
    "make",
    [_picture, _binary, _heat, _points, _recording, _channel_last, outputs.depth],
    ids=lambda make: make.__name__.lstrip("_"),
)
def test_values_at_places(make: Callable[[Rng], np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    values = make(rng)
    original = Scripted({"output": values})
    near = judge(original, {"output": noisy(values, rng, 30)})
    assert near.verdict(BUDGET) is not Verdict.FAILED, near.worst
    for wrong in (constant, inverted, dead, shuffled):
        score = judge(original, {"output": wrong(values, rng)})
        assert score.verdict(BUDGET) is Verdict.FAILED, (wrong.__name__, score.worst)
    for axis in range(1, values.ndim):
        if values.shape[axis] > 1:
            rolled = judge(original, {"output": np.roll(values, 1, axis=axis)})
            assert rolled.verdict(BUDGET) is Verdict.FAILED, (axis, rolled.worst)


@pytest.mark.parametrize("metric", [None, "cosine", "sqnr", "mse", "r2", "similarity"])
def test_an_original_that_says_one_thing_proves_nothing_by_any_metric(metric: str | None) -> None:
    rng = np.random.default_rng(3)
    for values in (
        np.full((60, 1), 159.8, np.float32),
        np.repeat(rng.standard_normal((1, 3)), 60, axis=0).astype(np.float32),
        np.repeat(rng.standard_normal((1, 128)), 60, axis=0).astype(np.float32),
        np.repeat(rng.standard_normal((1, 2, 8, 8)), 60, axis=0).astype(np.float32),
    ):
        original = Scripted({"output": values})
        for near in (values, (values * (1 + 1e-7)).astype(np.float32)):
            score = judge(original, {"output": near}, metric=metric)
            assert score.verdict(BUDGET) is Verdict.HELD, score.worst
        wrong = judge(original, {"output": -values}, metric=metric)
        assert wrong.verdict(BUDGET) is Verdict.FAILED, wrong.worst
