"""What a metric of the user's choice changes of what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from onnxcompress.data.casting import Kind
from onnxcompress.errors import DataError
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.forms import fitted, reading_of, with_scores
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.labels import UNNAMED, Labels
from onnxcompress.judging.question import Judged, Question
from onnxcompress.judging.readings import Decoded
from onnxcompress.measure.metric import Form, Metric, Target


def by_metric(
    questions: Sequence[Question],
    metric: Metric,
    facts: Sequence[OutputFacts],
    labels: Labels,
    asked: Mapping[str, Judged],
    *,
    must_apply: bool,
) -> list[Question]:
    """The questions with a metric of the user's choice where it applies.

    Raises:
        DataError: it applies nowhere and must.
    """
    by_name = {each.name: each for each in facts}
    wanted = _asked_by(metric, questions, by_name, labels)
    found, fault = [], DataError(f"no output can be judged by {metric.name}")
    is_applied = any(each.metric == metric for each in asked.values())
    for each in questions:
        own = asked.get(each.name)
        if each.name in wanted and (own is None or own.metric is None):
            try:
                each = rephrased(each, metric, by_name[each.outputs[0]], labels)
                is_applied = True
            except DataError as refusal:
                fault = refusal
        found.append(each)
    if must_apply and not is_applied:
        raise fault
    return found


def _asked_by(
    metric: Metric,
    questions: Sequence[Question],
    by_name: Mapping[str, OutputFacts],
    labels: Labels,
) -> set[str]:
    """The outputs that a metric is for.

    One that compares with labels is for the output that labels fit, or else for the first; one that
    compares with the original is for every output, but not for what goes back in.
    """
    if metric.target is Target.LABELS and (labels or metric.without_labels is None):
        taker = next((each for each in questions if each.labels is not None), None)
        taker = taker or _first_of_numbers(questions, by_name)
        return {taker.name}
    return {each.name for each in questions if each.kind is not OutputKind.STATE}


def rephrased(question: Question, metric: Metric, facts: OutputFacts, labels: Labels) -> Question:
    """The same question by another metric.

    Raises:
        DataError: there are no labels, or the output cannot be read so.
    """
    source = question.labels
    if source is None and metric.target is Target.LABELS:
        source = question.name if question.name in labels else UNNAMED
        source = source if source in labels else None
    if source is None and metric.without_labels is not None:
        metric = metric.without_labels
    if source is None and metric.target is Target.LABELS:
        raise DataError(f"{metric.name} needs labels, and the data hold none; use agreement")
    if len(question.outputs) > 1 and metric.form is not question.metric.form:
        raise DataError(
            f"outputs {question.name!r} give boxes together, which {metric.name} cannot compare; "
            f"choose map or detection-f1, or a kind for each (such as --judge "
            f"{question.outputs[0]}=numbers)"
        )
    reading = question.reading
    if question.kind is not OutputKind.DETECTIONS or metric.form is not Form.DETECTIONS:
        blank = reading.blank if isinstance(reading, Decoded) else None
        reading = reading_of(facts, question.kind, metric.form, blank)
    labelled = metric.target is Target.LABELS
    rephrased = replace(
        question,
        metric=fitted(metric, facts),
        reading=reading,
        labels=source if labelled else None,
        caveat=_caveat(question, metric),
    )
    return with_scores(rephrased, facts)


_SAID: Final = {
    Form.DETECTIONS: "all numbers that a detector gives, and not the boxes that are found",
    Form.SEQUENCES: "every step, most of which are blank, and not the text that is read",
}
"""What other metrics compare, by the form of the one that would have judged."""


def _caveat(question: Question, metric: Metric) -> str | None:
    """What another metric leaves out of what an output says."""
    default = question.metric
    if metric.form is default.form or default.form not in _SAID:
        return None
    return f"{metric.name} compares {_SAID[default.form]}, as {default.name} does"


def _first_of_numbers(
    questions: Sequence[Question], by_name: Mapping[str, OutputFacts]
) -> Question:
    """The first output of floats, or else of whole numbers, that does not go back in."""
    for kind in (Kind.FLOAT, Kind.INTEGER):
        for each in questions:
            facts = by_name[each.outputs[0]]
            if facts.dtype_kind is kind and each.kind is not OutputKind.STATE:
                return each
    return questions[0]
