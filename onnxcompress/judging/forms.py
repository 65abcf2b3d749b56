"""How an output is read for a metric, and by which scale its numbers are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from onnxcompress.data.casting import Kind
from onnxcompress.errors import DataError
from onnxcompress.judging.axes import class_axis_of_map, feature_axis
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.inference import are_scores
from onnxcompress.judging.kinds import KINDS, OutputKind
from onnxcompress.judging.question import Question
from onnxcompress.judging.readings import (
    Channels,
    Choices,
    Decoded,
    KeyedValues,
    Reading,
    Rows,
    Values,
    Vectors,
)
from onnxcompress.measure.equality import equal_rows_tally
from onnxcompress.measure.metric import Form, Metric
from onnxcompress.measure.metrics import METRICS
from onnxcompress.measure.numbers import FRACTION_SCALE
from onnxcompress.measure.tally import Tally

SCORES_TOLERANCE: Final = 7.0
"""Scores behind choices may lose so many times the budget of what varies in them: choices that are
sure stay what they are under noise that nobody would call the same model."""


_SCORES_SAMPLES: Final = 64


_SCORES_BYTES: Final = 1 << 28
"""Scores are kept for so many samples, and in so much memory; those of tokens are many."""


def reading_of(
    facts: OutputFacts, kind: OutputKind, form: Form, blank: int | None = None
) -> Reading:
    """How an output is read for a metric.

    Raises:
        DataError: it holds nothing of that form.
    """
    if kind is OutputKind.MAPS and form is Form.CHANNELS:
        return KeyedValues(keys=_keys(facts))
    axis = class_axis_of_map(facts) if kind is OutputKind.MAP else None
    numbers = facts.dtype_kind is Kind.FLOAT
    if form is Form.CLASSES and not numbers:
        return Values()
    if form is Form.CLASSES and max((n for n in facts.shape), default=1) > 1:
        return Choices(class_axis=axis)
    if form is Form.CHANNELS and (numbers or facts.dtype_kind in (Kind.INTEGER, Kind.BOOL)):
        is_curve = kind is OutputKind.MAP and sum(n != 1 for n in facts.shape) < 2
        is_one = is_curve or kind is OutputKind.STATE
        return Channels(axis=None if is_one else feature_axis(facts))
    if form is Form.VECTORS and numbers:
        return Vectors()
    if form is Form.SEQUENCES:
        if kind is OutputKind.SEQUENCE:
            return Decoded(blank=blank or 0)
        if not numbers:
            return Values(keeps_shape=False)
    if form is Form.ROWS:
        return Values(keeps_shape=False) if facts.batch_first else Rows()
    if form is Form.VALUES and facts.dtype_kind not in (Kind.TEXT, Kind.OTHER):
        return Values(class_axis=axis)
    raise DataError(
        f"output {facts.name!r} ({KINDS[kind].title}) cannot be judged by a metric of "
        f"{form.value}; choose another metric or output (--judge)"
    )


def fitted(metric: Metric, facts: OutputFacts) -> Metric:
    """The metric with the natural scale of the output's numbers, or for its free rows."""
    if metric.form is Form.ROWS and _holds_free_rows(facts):
        return replace(metric, tally=equal_rows_tally)
    if metric.form is not Form.CHANNELS or not _are_scores(facts):
        return metric
    tally: Callable[..., Tally] = metric.tally
    return replace(metric, tally=partial(tally, scale=FRACTION_SCALE))


def with_scores(question: Question, facts: OutputFacts) -> Question:
    """The question, and what is asked of the scores that choices are made by."""
    if question.metric.form is Form.DETECTIONS and question.labels is None:
        return question
    chooses = question.metric.form in (Form.CLASSES, Form.SEQUENCES)
    if not chooses or question.labels is not None or facts.dtype_kind is not Kind.FLOAT:
        return replace(question, scores=None)
    by_sample = max(each.nbytes for each in facts.looked)
    scores = Question(
        outputs=question.outputs,
        kind=question.kind,
        why=question.why,
        metric=fitted(METRICS["r2"].without_labels or METRICS["r2"], facts),
        reading=Channels(axis=None),
        tolerance=SCORES_TOLERANCE,
        samples=max(1, min(_SCORES_SAMPLES, _SCORES_BYTES // max(by_sample, 1))),
    )
    return replace(question, scores=scores)


def _keys(facts: OutputFacts) -> tuple[object, ...]:
    keys: dict[object, None] = {}
    for array in facts.looked:
        for each in np.asarray(array, dtype=object).ravel():
            keys.update(dict.fromkeys(each))
    return tuple(keys)


def _holds_free_rows(facts: OutputFacts) -> bool:
    """Whether samples are tables of a free number of rows."""
    if not facts.varies_in_shape or len(facts.shape) != 2:
        return False
    return len({each.shape[1:] for each in facts.looked}) == 1


def _are_scores(facts: OutputFacts) -> bool:
    return facts.dtype_kind is Kind.FLOAT and bool(facts.values.size) and are_scores(facts)
