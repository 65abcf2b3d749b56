"""From what two models answered to one question: value, drop and how sure it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.casting import is_float
from onnxcompress.errors import DataError
from onnxcompress.judging.blind_spots import blind_spots
from onnxcompress.judging.question import Question
from onnxcompress.judging.score import OutputScore
from onnxcompress.measure.intervals import (
    Interval,
    IntervalKind,
    bootstrap_interval,
    paired_interval,
)
from onnxcompress.measure.metric import Form, Metric, Target
from onnxcompress.measure.numbers import with_constant_answers
from onnxcompress.measure.scoring import same_infinities
from onnxcompress.measure.tally import RowTally, Tally

_FAILED: Final = (math.inf, math.inf)
_FORMS_OF_ANSWERS: Final = (Form.CLASSES, Form.SEQUENCES, Form.ROWS, Form.DETECTIONS)


def score_question(
    question: Question,
    ours: Any,
    theirs: Any,
    target: Any,
    *,
    problem: str | None,
    confidence: float,
    seed: int,
    constant: float | None,
) -> OutputScore:
    """Judges the answers of a candidate.

    Args:
        question: what was asked.
        ours: what the candidate answered, as the question reads it, or tallies of batches.
        theirs: what the original answered, likewise.
        target: what both are compared with.
        problem: why the candidate cannot be judged; None if it can.
        confidence: of the interval.
        seed: of the resampling.
        constant: see `constant_drop`.

    Raises:
        DataError: by the labels, the original itself is infinitely wrong, or labels do not fit.
    """
    metric = question.metric
    reference = _tally(metric, theirs, target)
    reference_value = _value(metric, reference)
    if metric.target is Target.LABELS and not math.isfinite(reference_value):
        raise DataError(
            f"output {question.name!r} of the original is infinite, so {metric.name} is too"
        )
    candidate: Tally | None = None
    compared = problem is None and metric.compares_values and not _is_tallied(theirs)
    if compared and not same_infinities(ours, theirs):
        problem = "is infinite where the original's is not, or the other way round"
    if problem is None:
        candidate = _tally(metric, ours, target)
        if np.isinf(candidate.sums(_once(reference.samples))).any():
            candidate, problem = None, "is infinitely far off"
    if candidate is None:
        value, drop, bounds = metric.worst, math.inf, _FAILED
        kind = IntervalKind.EXACT
    else:
        once = _once(reference.samples)
        drop = float(metric.drop(candidate.sums(once), reference.sums(once))[0])
        value = _value(metric, candidate)
        interval = _interval(metric, candidate, reference, confidence, seed)
        bounds, kind = (interval.low, interval.high), interval.kind
    low, high = (each / question.tolerance for each in bounds)
    return OutputScore(
        name=question.name,
        kind=question.kind,
        metric=metric.name,
        why=question.why,
        labelled=metric.target is Target.LABELS,
        value=value,
        reference_value=reference_value,
        drop=drop / question.tolerance,
        drop_interval=(low, high),
        interval_kind=kind,
        constant_drop=constant if constant is None else constant / question.tolerance,
        problem=problem,
        drop_is_relative=metric.drop_is_relative,
        beside=_beside(question, ours, target) if candidate is not None else None,
        unseen=() if candidate is None else tuple(blind_spots(question, ours, theirs, candidate)),
    )


def _beside(question: Question, ours: Any, target: Any) -> dict[str, float] | None:
    """Further figures of the same answers; those that the samples are too few for are left out."""
    found = {}
    for metric in question.beside:
        with suppress(DataError):
            found[metric.name] = _value(metric, metric.tally(ours, target))
    return found or None


def constant_drop(question: Question, theirs: Any, target: Any) -> float | None:
    """What a model would drop that gives the most common answer to all; None if unknown."""
    metric = question.metric
    if len(theirs) == 1 and not _is_tallied(theirs):
        return 0.0
    if metric.target is Target.LABELS:
        return _constant_label_drop(metric, theirs, target)
    if metric.form is Form.CHANNELS:
        tally = metric.tally(theirs, target)
        once = _once(tally.samples)
        sums = tally.sums(once)
        return float(metric.drop(with_constant_answers(sums), sums)[0])
    if metric.form is Form.CLASSES and isinstance(theirs, list):
        return None  # samples differ in shape, so no answer is one to all of them
    if metric.form in _FORMS_OF_ANSWERS:
        common = _most_common(theirs)
    elif isinstance(theirs, np.ndarray) and theirs.dtype.kind == "f":
        common = np.mean(theirs, axis=0, dtype=np.float64).astype(theirs.dtype)
    else:
        return None
    constant: Any = [common] * len(theirs)
    if isinstance(theirs, np.ndarray):
        constant = np.broadcast_to(np.asarray(common, theirs.dtype), theirs.shape)
    return _plain_drop(metric, constant, theirs, target)


def _plain_drop(metric: Metric, ours: Any, theirs: Any, target: Any) -> float | None:
    """The drop without any interval; None where there is none, as of an infinite original."""
    once = _once(len(theirs))
    reference = metric.tally(theirs, target).sums(once)
    with np.errstate(invalid="ignore"):
        drop = float(metric.drop(metric.tally(ours, target).sums(once), reference)[0])
    return None if math.isnan(drop) else drop


def _constant_label_drop(metric: Metric, theirs: Any, labels: np.ndarray) -> float | None:
    if metric.form is Form.CHANNELS and isinstance(theirs, np.ndarray):
        mean = np.mean(theirs, axis=0, dtype=np.float64)
        return _plain_drop(metric, np.broadcast_to(mean, theirs.shape), theirs, labels)
    if not metric.counts_answers or labels.ndim != 1 or is_float(labels.dtype):
        return None
    told = labels[labels >= 0] if labels.dtype.kind in "iu" else labels
    if not len(told):
        return None
    _, counts = np.unique(told, return_counts=True)
    value = _value(metric, _tally(metric, theirs, labels))
    return max(0.0, value - float(counts.max()) / len(told))


def _most_common(answers: Any) -> Any:
    keys = [_key(each) for each in answers]
    ((common, _),) = Counter(keys).most_common(1)
    return answers[keys.index(common)]


def _key(answer: Any) -> Any:
    if isinstance(answer, np.ndarray):
        if answer.dtype == object:
            return (answer.shape, repr(answer.ravel().tolist()))
        return (answer.shape, answer.tobytes())
    return repr(answer) if isinstance(answer, dict) else answer


def _is_tallied(answers: Any) -> bool:
    return isinstance(answers, list) and bool(answers) and hasattr(answers[0], "sums")


def _tally(metric: Metric, answers: Any, target: Any) -> Tally:
    if _is_tallied(answers):
        return _joined(answers)
    return metric.tally(answers, target)


def _joined(tallies: Sequence[Any]) -> Tally:
    joined: Tally = type(tallies[0]).joined(tallies)
    return joined


def _once(samples: int) -> NDArray[np.int64]:
    """Every sample as often as it was seen."""
    return np.ones((1, samples), dtype=np.int64)


def _value(metric: Metric, tally: Tally) -> float:
    return float(metric.value(tally.sums(_once(tally.samples)))[0])


def _interval(
    metric: Metric, candidate: Tally, reference: Tally, confidence: float, seed: int
) -> Interval:
    samples = reference.samples
    counts = _changed(metric, candidate, reference)
    if counts is not None:
        return paired_interval(*counts, confidence=confidence)
    found = bootstrap_interval(
        lambda weights: metric.drop(candidate.sums(weights), reference.sums(weights)),
        samples,
        seed=seed,
        confidence=confidence,
        bound=metric.most,
    )
    if math.isfinite(found.low) or math.isfinite(found.high):
        return found
    # Where no sample differs and a loss has no limit, nothing is known of samples not seen.
    drop = float(metric.drop(candidate.sums(_once(samples)), reference.sums(_once(samples)))[0])
    return Interval(drop, drop, IntervalKind.APPROXIMATE)


def _changed(
    metric: Metric, candidate: Tally, reference: Tally
) -> tuple[int, int | None, int] | None:
    """Answers lost, gained and all, where every sample is one answer; None elsewhere."""
    if not metric.counts_answers:
        return None
    if not (isinstance(candidate, RowTally) and isinstance(reference, RowTally)):
        return None
    ours, theirs = candidate.rows, reference.rows
    told = theirs[:, 1] > 0
    if not told.any() or (theirs[told, 1] != 1).any():
        return None
    if not np.isin(ours[told, 0], (0, 1)).all() or not np.isin(theirs[told, 0], (0, 1)).all():
        return None
    lost = int((theirs[told, 0] > ours[told, 0]).sum())
    gained = int((theirs[told, 0] < ours[told, 0]).sum())
    return lost, None if metric.target is Target.REFERENCE else gained, int(told.sum())
