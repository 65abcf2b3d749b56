"""What is asked of each output: which metric compares what, read how, with which labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from onnxcompress.data.casting import Kind, kind_of
from onnxcompress.errors import DataError, RecipeError
from onnxcompress.judging.detectors import Detector, detectors
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.inference import (
    are_scores,
    class_axis_of_map,
    feature_axis,
    is_class_map,
    kind_of_output,
)
from onnxcompress.judging.kinds import KINDS, OutputKind
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
from onnxcompress.measure.detection_fit import DETECTION_FIT
from onnxcompress.measure.equality import equal_rows_tally
from onnxcompress.measure.metric import Form, Metric, Target
from onnxcompress.measure.metrics import METRICS, resolve_metric
from onnxcompress.measure.numbers import FRACTION_SCALE
from onnxcompress.measure.tally import Tally

Labels = Mapping[str, np.ndarray]
"""Labels by the output they belong to; those that name no output stand under `UNNAMED`."""

UNNAMED: Final = ""
"""No output bears this name."""

STATE_TOLERANCE: Final = 10.0
"""What goes back in may lose so many times the budget: what that does shows in the answers."""

STATE_SAMPLES: Final = 32
"""Samples on which it is looked at: a cache is larger than everything else a model gives."""

SCORES_TOLERANCE: Final = 5.0
"""Scores behind choices may lose so many times the budget of what varies in them: choices that are
sure stay what they are under noise that nobody would call the same model."""

FIT_TOLERANCE: Final = 8.0
"""Boxes may overlap with the original's by so many times the budget less than wholly, on average,
and differ by as much in score: boxes of int8 models do by some 0.04, those shifted by a twentieth
of their size by 0.1 and more."""

_SCORES_SAMPLES: Final = 64
_SCORES_BYTES: Final = 1 << 28
"""Scores are kept for so many samples, and in so much memory; those of tokens are many."""

_NEIGHBOURS: Final = tuple(
    each for each in (METRICS["recall@10"].without_labels,) if each is not None
)
"""What vectors are for, told beside how near they stay to the original's."""

_BLANK_SHARE: Final = 0.3
"""Blanks fill so much of what a recognizer trained with CTC says, or more."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a user asks for: to judge this output, perhaps as this kind or by this metric."""

    output: str
    kind: OutputKind | None = None
    metric: Metric | None = None

    @staticmethod
    def of(output: str, choice: str | None) -> Judged:
        """An output with the word that says how it is judged: a kind, a metric or nothing.

        Raises:
            RecipeError: there is no such kind or metric.
        """
        if choice is None:
            return Judged(output=output)
        kinds = {kind.value: kind for kind in OutputKind}
        if choice in kinds:
            return Judged(output=output, kind=kinds[choice])
        try:
            metric = resolve_metric(choice)
        except RecipeError as fault:
            known = f"kinds are {', '.join(kinds)}; metrics {', '.join(METRICS)}"
            raise RecipeError(
                f"output {output!r} cannot be judged by {choice!r}, which is no kind and no "
                f"metric; {known}"
            ) from fault
        if not isinstance(metric, Metric):
            raise RecipeError(
                f"output {output!r}: a function of your own sees all outputs; give it as --metric "
                f"{choice}"
            )
        return Judged(output=output, metric=metric)


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """How one output, or several together, are judged.

    Attributes:
        outputs: their names.
        kind: what they say.
        why: what that was taken from.
        metric: what judges them.
        reading: what it compares.
        labels: the name of what it compares with, see `Labels`; None for the original's outputs.
        tolerance: the drop is divided by it.
        samples: on how many samples at most; None for all.
        scores: what is asked of the scores behind choices, beside the choices.
        beside: metrics of the same form that are told and decide nothing.
    """

    outputs: tuple[str, ...]
    kind: OutputKind
    why: str
    metric: Metric
    reading: Reading
    labels: str | None = None
    tolerance: float = 1.0
    samples: int | None = None
    scores: Question | None = None
    beside: tuple[Metric, ...] = ()

    @property
    def name(self) -> str:
        """What reports call it."""
        return " + ".join(self.outputs)


def ask(
    facts: Sequence[OutputFacts],
    labels: Labels,
    *,
    looked: int,
    reads_text: bool,
    metric: Metric | None = None,
    judged: Sequence[Judged] = (),
    metric_must_apply: bool = True,
) -> tuple[Question, ...]:
    """Decides how every output is judged.

    Args:
        facts: of the original's outputs, in its order.
        labels: of all samples.
        looked: how many samples the facts come from: the first.
        reads_text: whether all the model's inputs are whole numbers.
        metric: instead of the default ones, where it can be applied.
        judged: outputs to restrict to, with kinds and metrics of their own.
        metric_must_apply: whether a metric that applies to no output is an error.

    Raises:
        DataError: no output is of that name, or an output cannot be read as the metric needs it.
    """
    asked = {each.output: each for each in judged}
    known = [each.name for each in facts]
    for name in (*asked, *(name for name in labels if name != UNNAMED)):
        if name not in known:
            listed = ", ".join(map(repr, known))
            raise DataError(f"the model has no output {name!r}; its outputs are {listed}")
    if asked:
        facts = [each for each in facts if each.name in asked]
    asker = _Asker(facts, labels, looked, reads_text)
    questions = list(asker.questions(asked))
    if metric is not None:
        questions = _by_metric(questions, metric, asker, asked, must_apply=metric_must_apply)
    return tuple(questions)


class _Asker:
    def __init__(
        self, facts: Sequence[OutputFacts], labels: Labels, looked: int, reads_text: bool
    ) -> None:
        self.facts = facts
        self.labels = labels
        self.looked = looked
        self.reads_text = reads_text

    def questions(self, asked: Mapping[str, Judged]) -> Iterator[Question]:
        """One for each output or group of outputs, in the model's order."""
        plain = [each for each in self.facts if asked.get(each.name, _PLAIN).kind in (None, _BOXES)]
        group = next(iter(detectors(plain)), None)
        in_group = group.outputs if group else ()
        drafts: list[tuple[OutputFacts, OutputKind, str]] = []
        for each in self.facts:
            if each.name in in_group:
                continue
            wanted = asked.get(each.name, _PLAIN)
            if wanted.kind is not None:
                drafts.append((each, wanted.kind, "you said so"))
                continue
            own = self.labels.get(each.name, self.labels.get(UNNAMED))
            finding = kind_of_output(each, None if own is None else own[: self.looked], self.facts)
            drafts.append((each, finding.kind, finding.reason))
        taker = self._taker_of_labels(drafts, group)
        if group is not None:
            yield self._of_group(group, taker)
        for each, kind, why in drafts:
            source = each.name if each.name in self.labels else None
            if source is None and each.name == taker:
                source = UNNAMED
            yield self.question(each, kind, why, source, asked.get(each.name, _PLAIN).metric)

    def question(
        self,
        facts: OutputFacts,
        kind: OutputKind,
        why: str,
        source: str | None,
        metric: Metric | None = None,
    ) -> Question:
        """The question about one output, its labels where they fit."""
        blank = self._blank(facts, kind)
        fits = source is not None and self._fit(facts, kind, blank, self.labels[source])
        if fits and source is not None and metric is not None and metric.form is Form.CHANNELS:
            # Numbers of classes are labels of a choice, but not of its scores.
            fits = labels_fit(OutputKind.NUMBERS, facts, self.labels[source])
        if metric is None:
            metric = self._default(facts, kind, blank, labelled=fits)
        chosen = metric
        if not fits and metric.without_labels is not None:
            chosen = metric.without_labels
        if chosen.target is Target.LABELS and source is None:
            raise DataError(
                f"output {facts.name!r}: {chosen.name} needs labels, and the data hold none; give "
                f"them as 'labels' or 'labels.{facts.name}'"
            )
        question = Question(
            outputs=(facts.name,),
            kind=kind,
            why=why,
            metric=_fitted(chosen, facts),
            reading=reading_of(facts, kind, chosen.form, blank),
            labels=source if chosen.target is Target.LABELS else None,
            tolerance=STATE_TOLERANCE if kind is OutputKind.STATE else 1.0,
            samples=STATE_SAMPLES if kind is OutputKind.STATE else None,
            beside=_NEIGHBOURS if kind is OutputKind.EMBEDDING else (),
        )
        return _with_scores(question, facts)

    def _fit(
        self, facts: OutputFacts, kind: OutputKind, blank: int | None, labels: np.ndarray
    ) -> bool:
        """Whether labels fit; what a recognizer reads is shorter than the places it looks at."""
        if blank is not None and labels.ndim == 2 and labels.dtype.kind in "iu":
            return int(labels.max(initial=0)) < facts.shape[-1]
        return labels_fit(kind, facts, labels)

    def _default(
        self, facts: OutputFacts, kind: OutputKind, blank: int | None, *, labelled: bool
    ) -> Metric:
        row = KINDS[kind]
        if kind is OutputKind.SEQUENCE and blank is not None:
            return METRICS["cer"]
        if kind is OutputKind.MAP and class_axis_of_map(facts) is not None:
            return METRICS["miou"]
        if kind is OutputKind.INTEGERS and is_class_map(facts):
            return METRICS["miou"]
        name = row.with_labels if labelled and row.with_labels else row.metric
        return METRICS[name]

    def _blank(self, facts: OutputFacts, kind: OutputKind) -> int | None:
        """The class that stands for nothing between characters; None where there is none."""
        if kind is not OutputKind.SEQUENCE or self.reads_text:
            return None
        arrays = facts.looked if isinstance(facts.looked, list) else list(facts.looked)
        chosen = np.concatenate([each.argmax(axis=-1).ravel() for each in arrays])
        last = arrays[0].shape[-1] - 1
        shares = {blank: float((chosen == blank).mean()) for blank in (0, last)}
        best = max(shares, key=lambda blank: shares[blank])
        return best if shares[best] >= _BLANK_SHARE else None

    def _taker_of_labels(
        self, drafts: Sequence[tuple[OutputFacts, OutputKind, str]], group: Detector | None
    ) -> str | None:
        """The output that labels without a name belong to, if they fit any."""
        labels = self.labels.get(UNNAMED)
        if labels is None:
            return None
        if group is not None and labels.ndim == 3 and labels.shape[-1] == 5:
            return group.outputs[0]
        for kind in _LABEL_TAKERS:
            takers = [
                facts
                for facts, found, _ in drafts
                if found is kind and self._fit(facts, kind, self._blank(facts, kind), labels)
            ]
            if takers:
                own = labels[: self.looked]
                return max(takers, key=lambda facts: _nearness(facts, own)).name
        return None

    def _of_group(self, group: Detector, taker: str | None) -> Question:
        first = group.outputs[0]
        source = first if first in self.labels else UNNAMED if taker == first else None
        row = KINDS[OutputKind.DETECTIONS]
        name = row.metric if source is None or row.with_labels is None else row.with_labels
        fit = Question(
            outputs=group.outputs,
            kind=OutputKind.DETECTIONS,
            why=group.reason,
            metric=DETECTION_FIT,
            reading=group.reading,
            tolerance=FIT_TOLERANCE,
        )
        return replace(
            fit,
            metric=METRICS[name],
            labels=source,
            tolerance=1.0,
            scores=fit if source is None else None,
        )


_PLAIN: Final = Judged(output="")
_BOXES: Final = OutputKind.DETECTIONS

_LABEL_TAKERS: Final = (
    OutputKind.CHOICE,
    OutputKind.SEQUENCE,
    OutputKind.MAP,
    OutputKind.INTEGERS,
    OutputKind.STRINGS,
    OutputKind.LABELS,
    OutputKind.NUMBER,
    OutputKind.NUMBERS,
)
"""Kinds in the order in which labels without a name are offered to them."""


def _nearness(facts: OutputFacts, labels: np.ndarray) -> float:
    """How near an output is to labels that fit it, by which it is told from others: more is nearer.

    The share of right choices where labels are those of classes; less the error elsewhere.
    """
    if facts.varies_in_shape or facts.dtype_kind is not Kind.FLOAT:
        return 0.0
    values = facts.values
    if values.size == labels.size:
        return -float(np.square(values.ravel() - labels.astype(np.float64).ravel()).mean())
    scores = values.reshape(len(values), *(n for n in facts.shape if n != 1))
    for axis in range(scores.ndim - 1, 0, -1):
        chosen = scores.argmax(axis=axis)
        if chosen.size == labels.size:
            return float((chosen.ravel() == labels.ravel()).mean())
    return 0.0


def labels_fit(kind: OutputKind, facts: OutputFacts, labels: np.ndarray) -> bool:
    """Whether labels of all samples can be those of an output of this kind."""
    shape, wanted = facts.shape, labels.shape[1:]
    whole = kind_of(labels.dtype) in (Kind.INTEGER, Kind.BOOL)
    long = tuple(n for n in shape if n != 1)
    if kind in (OutputKind.CHOICE, OutputKind.SEQUENCE):
        spots = tuple(n for n in wanted if n != 1)
        same = facts.varies_in_shape or spots == long[:-1]
        return whole and bool(long) and same and _largest(labels) < long[-1]
    if kind is OutputKind.MAP:
        axis = class_axis_of_map(facts)
        if axis is not None:
            spots = tuple(n for at, n in enumerate(shape) if at != axis)
            return whole and tuple(n for n in wanted if n != 1) == tuple(n for n in spots if n != 1)
    if kind is OutputKind.STRINGS:
        return kind_of(labels.dtype) is Kind.TEXT
    if kind is OutputKind.INTEGERS:
        return whole and int(np.prod(wanted)) == int(np.prod(shape))
    if kind in (OutputKind.STATE, OutputKind.MAPS, OutputKind.OTHER, OutputKind.EMBEDDING):
        return False
    is_number = whole or kind_of(labels.dtype) is Kind.FLOAT
    return is_number and int(np.prod(wanted)) == int(np.prod(shape))


def _largest(labels: np.ndarray) -> int:
    return int(labels.max()) if labels.size else 0


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


def _keys(facts: OutputFacts) -> tuple[object, ...]:
    keys: dict[object, None] = {}
    for array in facts.looked:
        for each in np.asarray(array, dtype=object).ravel():
            keys.update(dict.fromkeys(each))
    return tuple(keys)


def _fitted(metric: Metric, facts: OutputFacts) -> Metric:
    """The metric with the natural scale of the output's numbers, or for its free rows."""
    if metric.form is Form.ROWS and _holds_free_rows(facts):
        return replace(metric, tally=equal_rows_tally)
    if metric.form is not Form.CHANNELS or not _are_scores(facts):
        return metric
    tally: Callable[..., Tally] = metric.tally
    return replace(metric, tally=partial(tally, scale=FRACTION_SCALE))


def _holds_free_rows(facts: OutputFacts) -> bool:
    """Whether samples are tables of a free number of rows."""
    if not facts.varies_in_shape or len(facts.shape) != 2:
        return False
    return len({each.shape[1:] for each in facts.looked}) == 1


def _are_scores(facts: OutputFacts) -> bool:
    return facts.dtype_kind is Kind.FLOAT and bool(facts.values.size) and are_scores(facts)


def _with_scores(question: Question, facts: OutputFacts) -> Question:
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
        metric=_fitted(METRICS["r2"].without_labels or METRICS["r2"], facts),
        reading=Channels(axis=None),
        tolerance=SCORES_TOLERANCE,
        samples=max(1, min(_SCORES_SAMPLES, _SCORES_BYTES // max(by_sample, 1))),
    )
    return replace(question, scores=scores)


def _by_metric(
    questions: Sequence[Question],
    metric: Metric,
    asker: _Asker,
    asked: Mapping[str, Judged],
    *,
    must_apply: bool,
) -> list[Question]:
    """The questions with a metric of the user's choice where it applies.

    Raises:
        DataError: it applies nowhere and must.
    """
    by_name = {each.name: each for each in asker.facts}
    wanted = _asked_by(metric, questions, by_name, asker.labels)
    found, fault = [], DataError(f"no output can be judged by {metric.name}")
    is_applied = any(each.metric == metric for each in asked.values())
    for each in questions:
        own = asked.get(each.name, _PLAIN)
        if each.name in wanted and own.metric is None:
            try:
                each = _rephrased(each, metric, by_name[each.outputs[0]], asker.labels)
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


def _rephrased(question: Question, metric: Metric, facts: OutputFacts, labels: Labels) -> Question:
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
    reading = question.reading
    if question.kind is not OutputKind.DETECTIONS or metric.form is not Form.DETECTIONS:
        blank = reading.blank if isinstance(reading, Decoded) else None
        reading = reading_of(facts, question.kind, metric.form, blank)
    labelled = metric.target is Target.LABELS
    rephrased = replace(
        question,
        metric=_fitted(metric, facts),
        reading=reading,
        labels=source if labelled else None,
    )
    return _with_scores(rephrased, facts)


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
