"""Candidates that are wrong in a known way are refused at one per cent, near ones are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pytest

from onnxcompress.budget import Budget
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.score import Verdict
from tests.judging.scripted import Scripted, judge

SAMPLES: Final = 240
BUDGET: Final = Budget(0.01)
Rng = np.random.Generator
Wrong = Callable[[np.ndarray, Rng], Any]


def noisy(values: np.ndarray, rng: Rng, decibels: float) -> np.ndarray:
    """With noise so many dB below what varies over samples, column by column."""
    spread = np.sqrt(np.square(values - values.mean(axis=0)).mean())
    noise = rng.standard_normal(values.shape) * spread * 10 ** (-decibels / 20)
    return np.asarray((values + noise).astype(values.dtype))


def constant(values: np.ndarray, _rng: Rng) -> np.ndarray:
    return np.broadcast_to(values.mean(axis=0).astype(values.dtype), values.shape).copy()


def first_for_all(values: np.ndarray, _rng: Rng) -> np.ndarray:
    return np.broadcast_to(values[:1], values.shape).copy()


def inverted(values: np.ndarray, _rng: Rng) -> np.ndarray:
    return np.asarray(values.min() + values.max() - values)


def swapped(values: np.ndarray, _rng: Rng) -> np.ndarray:
    return np.roll(values, 1, axis=1)


def scaled(values: np.ndarray, _rng: Rng) -> np.ndarray:
    return np.asarray(values * np.asarray(0.5, values.dtype))


def dead(values: np.ndarray, _rng: Rng) -> np.ndarray:
    return np.zeros_like(values)


def shuffled(values: np.ndarray, rng: Rng) -> np.ndarray:
    return values[rng.permutation(len(values))]


def never_chosen(values: np.ndarray, _rng: Rng) -> np.ndarray:
    changed = values.copy()
    changed[:, 0] = values.min() - 1
    return changed


def one_column_dead(values: np.ndarray, _rng: Rng) -> np.ndarray:
    changed = values.copy()
    changed[:, -1] = values[:, -1].mean()
    return changed


def at_10_decibels(values: np.ndarray, rng: Rng) -> np.ndarray:
    return noisy(values, rng, 10)


COMMON: Final = (constant, first_for_all, inverted, dead, shuffled, at_10_decibels)


@dataclass(frozen=True)
class Case:
    """An output, its kind, and mistakes beside those common to all."""

    name: str
    values: Callable[[Rng], np.ndarray]
    kind: OutputKind
    wrong: tuple[Wrong, ...] = ()
    labels: Callable[[np.ndarray], np.ndarray] | None = None
    good: float = 40.0
    common: tuple[Wrong, ...] = field(default=COMMON)


def logits(rng: Rng, classes: int = 10) -> np.ndarray:
    """Of a classifier that is fairly sure."""
    values = rng.standard_normal((SAMPLES, classes))
    values[np.arange(SAMPLES), rng.integers(0, classes, SAMPLES)] += 6
    return values.astype(np.float32)


def softmax(values: np.ndarray, axis: int = 1) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray((powers / powers.sum(axis=axis, keepdims=True)).astype(np.float32))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray((1 / (1 + np.exp(-values))).astype(np.float32))


def regressions(rng: Rng) -> np.ndarray:
    """Three scores of one to five, as of audio quality, the third always the lowest."""
    base = rng.uniform(1.5, 4, (SAMPLES, 1))
    return (base + [0.5, 0.8, 0.0] + 0.3 * rng.standard_normal((SAMPLES, 3))).astype(np.float32)


def embedding(rng: Rng) -> np.ndarray:
    """Vectors of one length that mostly point the same way, of 12 kinds."""
    centres = rng.standard_normal((12, 192))
    vectors = 2 * rng.standard_normal(192) + centres[rng.integers(0, 12, SAMPLES)]
    vectors += 0.5 * rng.standard_normal((SAMPLES, 192))
    return np.asarray((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


def curve(rng: Rng) -> np.ndarray:
    steps = rng.standard_normal((SAMPLES, 120)).cumsum(axis=1) / 5
    return steps.astype(np.float32)


def depth(rng: Rng) -> np.ndarray:
    coarse = rng.uniform(0.5, 10, (SAMPLES, 1, 4, 4))
    return coarse.repeat(4, axis=2).repeat(4, axis=3).astype(np.float32)


def segments(rng: Rng) -> np.ndarray:
    classes = rng.integers(0, 4, (SAMPLES, 6, 6)).repeat(3, axis=1).repeat(3, axis=2)
    scores = 8 * np.eye(4)[classes].transpose(0, 3, 1, 2) + rng.standard_normal(
        (SAMPLES, 4, 18, 18)
    )
    return softmax(scores)


CASES: Final = (
    Case("logits", logits, OutputKind.CHOICE, (swapped, never_chosen)),
    Case(
        "probabilities",
        lambda rng: softmax(logits(rng)),
        OutputKind.CHOICE,
        (swapped, never_chosen),
    ),
    Case(
        "class_scores",
        lambda rng: sigmoid(3 * rng.standard_normal((SAMPLES, 6))),
        OutputKind.LABELS,
        (swapped, scaled, one_column_dead),
    ),
    Case(
        "price",
        lambda rng: rng.uniform(40, 370, (SAMPLES, 1)).astype(np.float32),
        OutputKind.NUMBER,
        (scaled,),
    ),
    Case("mos", regressions, OutputKind.NUMBERS, (swapped, scaled, one_column_dead)),
    Case("embedding", embedding, OutputKind.EMBEDDING, (scaled, swapped)),
    Case("pitch", curve, OutputKind.MAP, (scaled,)),
    Case("depth", depth, OutputKind.MAP, (scaled,)),
    Case("segments", segments, OutputKind.MAP, (swapped, never_chosen)),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrong_answers_are_refused_and_near_ones_are_not(case: Case) -> None:
    rng = np.random.default_rng(7)
    values = case.values(rng)
    original = Scripted({case.name: values})
    for mistake in (*case.common, *case.wrong):
        score = judge(original, {case.name: mistake(values, rng)})
        (output,) = score.outputs
        assert output.kind is case.kind, output
        assert score.verdict(BUDGET) is Verdict.FAILED, (mistake.__name__, output)
    near = judge(original, {case.name: noisy(values, rng, case.good)})
    assert near.verdict(BUDGET) is not Verdict.FAILED, near
    same = judge(original, {case.name: values})
    assert same.drop == 0
