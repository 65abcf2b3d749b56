"""What outputs are taken for, by names and values that models really have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pytest

from onnxcompress.budget import Budget
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.score import Verdict
from tests.judging import outputs
from tests.judging.outputs import SAMPLES, Rng, sigmoid, softmax
from tests.judging.scripted import Scripted, judge
from tests.judging.test_adversaries import at_10_decibels, dead, inverted, noisy, shuffled

BUDGET: Final = Budget(0.01)
Make = Callable[[Rng], np.ndarray]


def _mixed(rng: Rng) -> np.ndarray:
    """Ten numbers of three causes."""
    causes = rng.standard_normal((SAMPLES, 3)) @ rng.standard_normal((3, 10))
    return (causes + rng.normal(0, 3, 10)).astype(np.float32)


def _wide(rng: Rng) -> np.ndarray:
    return rng.standard_t(3, (SAMPLES, 10)).astype(np.float32)


CASES: Final[tuple[tuple[str, str, Make, OutputKind, str], ...]] = (
    ("two logits", "output", lambda r: outputs.logits(r, 2), OutputKind.CHOICE, "agreement"),
    ("three logits", "495", lambda r: outputs.logits(r, 3), OutputKind.CHOICE, "agreement"),
    ("named", "logits", lambda r: outputs.logits(r, 3), OutputKind.CHOICE, "agreement"),
    ("ten", "output", lambda r: outputs.logits(r, 10), OutputKind.CHOICE, "agreement"),
    ("thousand", "output0", lambda r: outputs.logits(r, 1000), OutputKind.CHOICE, "agreement"),
    (
        "pooled",
        "output",
        lambda r: outputs.logits(r, 10)[:, :, None, None],
        OutputKind.CHOICE,
        "agreement",
    ),
    (
        "one step",
        "output",
        lambda r: outputs.logits(r, 10)[:, None, None],
        OutputKind.CHOICE,
        "agreement",
    ),
    (
        "half floats",
        "output",
        lambda r: outputs.logits(r, 10).astype(np.float16),
        OutputKind.CHOICE,
        "agreement",
    ),
    (
        "two probabilities",
        "output",
        lambda r: softmax(outputs.logits(r, 2)),
        OutputKind.CHOICE,
        "agreement",
    ),
    (
        "probabilities",
        "495",
        lambda r: softmax(outputs.logits(r, 10)),
        OutputKind.CHOICE,
        "agreement",
    ),
    (
        "logarithms",
        "output",
        lambda r: np.log(softmax(outputs.logits(r, 10)) + 1e-30),
        OutputKind.CHOICE,
        "agreement",
    ),
    ("tags", "probs", lambda r: outputs.labels_at_once(r, 14), OutputKind.LABELS, "r2"),
    ("14 tags", "output", lambda r: outputs.labels_at_once(r, 14), OutputKind.NUMBERS, "r2"),
    ("527 tags", "output", lambda r: outputs.labels_at_once(r, 527), OutputKind.LABELS, "r2"),
    ("ten numbers", "output", _mixed, OutputKind.NUMBERS, "r2"),
    ("long tails", "output", _wide, OutputKind.NUMBERS, "r2"),
    ("landmarks", "output", outputs.landmarks, OutputKind.NUMBERS, "r2"),
    (
        "named points",
        "landmarks",
        lambda r: outputs.landmarks(r) / 200 - 0.5,
        OutputKind.NUMBERS,
        "r2",
    ),
    ("small", "output", lambda r: outputs.embedding(r, 64), OutputKind.EMBEDDING, "similarity"),
    (
        "unit",
        "output",
        lambda r: outputs.embedding(r, 512, unit=True),
        OutputKind.EMBEDDING,
        "similarity",
    ),
    (
        "relu",
        "495",
        lambda r: outputs.embedding(r, 2048, positive=True),
        OutputKind.EMBEDDING,
        "similarity",
    ),
    ("curve", "output", outputs.curve, OutputKind.MAP, "r2"),
    ("speech", "output", outputs.voiced, OutputKind.LABELS, "r2"),
    ("forecast", "output", outputs.forecast, OutputKind.NUMBERS, "r2"),
    ("depth", "output", outputs.depth, OutputKind.MAP, "r2"),
    ("mask", "output", outputs.spectrogram_mask, OutputKind.MAP, "r2"),
    ("hidden", "last_hidden_state", outputs.hidden_states, OutputKind.MAP, "r2"),
    ("hidden unnamed", "output", outputs.hidden_states, OutputKind.MAP, "r2"),
    ("segments", "seg_logits", outputs.segments, OutputKind.MAP, "miou"),
    (
        "segment probabilities",
        "output",
        lambda r: softmax(outputs.segments(r), 1),
        OutputKind.MAP,
        "miou",
    ),
    ("reads", "output", outputs.recognizer, OutputKind.SEQUENCE, "cer"),
    (
        "blank last",
        "logits",
        lambda r: outputs.recognizer(r, blank=29),
        OutputKind.SEQUENCE,
        "cer",
    ),
    (
        "reads surely",
        "output",
        lambda r: softmax(outputs.recognizer(r)),
        OutputKind.SEQUENCE,
        "cer",
    ),
    ("tokens", "logits", outputs.tokens, OutputKind.SEQUENCE, "agreement"),
    ("tokens unnamed", "output", outputs.tokens, OutputKind.SEQUENCE, "agreement"),
    (
        "chance",
        "output",
        lambda r: sigmoid(r.normal(0, 3, (SAMPLES, 1))),
        OutputKind.NUMBER,
        "r2",
    ),
)

CHOOSING: Final = frozenset(["agreement", "cer", "miou", "similarity"])
"""Metrics that noise of 26 dB, as of int8, does not trouble."""


def a_tenth_exchanged(values: np.ndarray, rng: Rng) -> np.ndarray:
    changed = values.copy()
    hit = rng.random(len(values)) < 0.1
    changed[hit] = values[rng.permutation(len(values))[: hit.sum()]]
    return changed


@pytest.mark.parametrize(
    ("_what", "name", "make", "kind", "metric"),
    CASES,
    ids=[f"{each[0]} as {each[1]}" for each in CASES],
)
def test_kinds_and_what_they_let_pass(
    _what: str, name: str, make: Make, kind: OutputKind, metric: str
) -> None:
    rng = np.random.default_rng(3)
    values = make(rng)
    reads = np.int64 if metric == "agreement" and values.ndim == 3 else np.float32
    original = Scripted({name: values}, reads=reads)
    near = judge(original, {name: noisy(values, rng, 40)})
    assert (near.worst.kind, near.worst.metric) == (kind, metric)
    assert near.verdict(BUDGET) is not Verdict.FAILED, near
    if metric in CHOOSING:
        as_int8 = judge(original, {name: noisy(values, rng, 26)})
        assert as_int8.verdict(BUDGET) is not Verdict.FAILED, as_int8
    for wrong in (inverted, dead, shuffled, at_10_decibels, a_tenth_exchanged):
        score = judge(original, {name: wrong(values, rng)})
        assert score.verdict(BUDGET) is Verdict.FAILED, (wrong.__name__, score.worst)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(90) % 5,
        (np.arange(90 * 7) % 3 == 0).reshape(90, 7),
        np.array([f"word {number % 7}" for number in range(90)], dtype=object),
        np.array([[f"{number % 7}", "x"] for number in range(90)], dtype=object),
    ],
    ids=["integers", "truth values", "text", "texts"],
)
def test_what_is_equal_or_not(values: np.ndarray) -> None:
    original = Scripted({"output": values})
    assert judge(original, {"output": values.copy()}).drop == 0
    changed = values.copy()
    changed[:9] = values[1:10]
    score = judge(original, {"output": changed})
    assert score.worst.metric == "equal"
    assert 0 < score.drop <= 0.1
    for wrong in (np.roll(values, 1, axis=0), np.broadcast_to(values[:1], values.shape)):
        assert judge(original, {"output": wrong.copy()}).verdict(BUDGET) is Verdict.FAILED
