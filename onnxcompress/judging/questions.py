"""What is asked of each output: which metric compares what, read how, with which labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from onnxcompress.errors import DataError
from onnxcompress.judging.axes import class_axis_of_map, is_class_map
from onnxcompress.judging.detectors import Detector, detectors
from onnxcompress.judging.facts import OutputFacts
from onnxcompress.judging.forms import fitted, reading_of, with_scores
from onnxcompress.judging.inference import kind_of_output
from onnxcompress.judging.kinds import KINDS, OutputKind
from onnxcompress.judging.labels import LABEL_TAKERS, UNNAMED, Labels, labels_fit, nearness
from onnxcompress.judging.overrides import by_metric, rephrased
from onnxcompress.judging.question import Judged, Question
from onnxcompress.measure.detection_fit import DETECTION_FIT
from onnxcompress.measure.metric import Form, Metric, Target
from onnxcompress.measure.metrics import METRICS

STATE_TOLERANCE: Final = 10.0
"""What goes back in may lose so many times the budget: what that does shows in the answers."""

STATE_SAMPLES: Final = 32
"""Samples on which it is looked at: a cache is larger than everything else a model gives."""


FIT_TOLERANCE: Final = 8.0
"""Boxes may overlap with the original's by so many times the budget less than wholly, on average,
and differ by as much in score: those of int8 files of a YOLOv8 do by 0.055 to 0.065, those shifted
by a twentieth of their width by 0.095."""


_NEIGHBOURS: Final = tuple(
    each for each in (METRICS["recall@10"].without_labels,) if each is not None
)
"""What vectors are for, told beside how near they stay to the original's."""

_BLANK_SHARE: Final = 0.3
"""Blanks fill so much of what a recognizer trained with CTC says, or more."""


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
        questions = by_metric(questions, metric, facts, labels, asked, must_apply=metric_must_apply)
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
            together = self._of_group(group, taker)
            first = next(each for each in self.facts if each.name == group.outputs[0])
            for name in group.outputs:
                metric = asked.get(name, _PLAIN).metric
                if metric is not None:
                    together = rephrased(together, metric, first, self.labels)
            yield together
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
            metric=fitted(chosen, facts),
            reading=reading_of(facts, kind, chosen.form, blank),
            labels=source if chosen.target is Target.LABELS else None,
            tolerance=STATE_TOLERANCE if kind is OutputKind.STATE else 1.0,
            samples=STATE_SAMPLES if kind is OutputKind.STATE else None,
            beside=_NEIGHBOURS if kind is OutputKind.EMBEDDING else (),
        )
        return with_scores(question, facts)

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
        for kind in LABEL_TAKERS:
            takers = [
                facts
                for facts, found, _ in drafts
                if found is kind and self._fit(facts, kind, self._blank(facts, kind), labels)
            ]
            if takers:
                own = labels[: self.looked]
                return max(takers, key=lambda facts: nearness(facts, own)).name
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
