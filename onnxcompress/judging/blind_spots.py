"""What a metric does not see of the answers that it judged: sentences that decide nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.question import Question
from onnxcompress.measure.detection_fit import fit_tally, score_shift
from onnxcompress.measure.metric import Form, Target
from onnxcompress.measure.numbers import WORST_SHARE, forgotten, spread_and_error
from onnxcompress.measure.regions import RegionTally
from onnxcompress.measure.similarity import spread_and_error_of_vectors
from onnxcompress.measure.tally import Tally

_SHIFT: Final = 0.02
"""Labelled detections whose scores move by more than this together want another threshold."""

_MOST_NAMED: Final = 3


def blind_spots(question: Question, ours: Any, theirs: Any, candidate: Tally) -> Iterator[str]:
    """Looks for what is lost where the metric does not look.

    Args:
        question: what was asked.
        ours: what the candidate answered, as the question reads it.
        theirs: what the original answered, alike.
        candidate: what the metric counted of it.
    """
    if question.caveat is not None:
        yield question.caveat
    metric = question.metric
    if metric.target is Target.REFERENCE and metric.form is Form.CHANNELS:
        once = np.ones((1, candidate.samples), dtype=np.int64)
        yield from _columns(metric.name, *spread_and_error(candidate.sums(once)[0]))
    elif metric.form is Form.VECTORS and isinstance(theirs, np.ndarray):
        yield from _columns(metric.name, *spread_and_error_of_vectors(ours, theirs))
    if isinstance(candidate, RegionTally):
        yield from _small_classes(candidate)
    if question.kind is OutputKind.DETECTIONS and metric.target is Target.LABELS:
        yield from _shifted_scores(ours, theirs)


def _columns(metric: str, spread: NDArray[np.float64], error: NDArray[np.float64]) -> Iterator[str]:
    """Columns that are as good as dead among so many that they hardly count."""
    found = forgotten(spread, error)
    if 0 < len(found) < len(spread) // WORST_SHARE:
        yield (
            f"{metric} over {len(spread)} columns sees little of {len(found)} ({_named(found)}) "
            f"where less than half of what varies is kept"
        )


def _small_classes(candidate: RegionTally) -> Iterator[str]:
    lost = candidate.lost_small_classes()
    if len(lost):
        yield (
            f"classes that fill less than 0.1 % of all places do not count, and of {_named(lost)} "
            f"less than half is found"
        )


def _shifted_scores(ours: Any, theirs: Any) -> Iterator[str]:
    """By labels only the order of scores counts, and not what a threshold makes of them."""
    tally = fit_tally(ours, theirs)
    shift = score_shift(tally.sums(np.ones((1, tally.samples), dtype=np.int64)))[0]
    if abs(shift) > _SHIFT:
        yield (
            f"scores are {abs(shift):.2g} {'higher' if shift > 0 else 'lower'} than the original's "
            f"on average, which map does not see: a threshold set for the original finds other "
            f"boxes"
        )


def _named(places: NDArray[np.int64]) -> str:
    named = ", ".join(map(str, places[:_MOST_NAMED].tolist()))
    return named if len(places) <= _MOST_NAMED else f"{named}, ..."
