"""Runs models over a dataset and judges every output beside one reference's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcompress.data.casting import is_float
from onnxcompress.errors import DataError
from onnxcompress.judging.chunks import chunks, look, require_memory
from onnxcompress.judging.custom import CustomEvaluation
from onnxcompress.judging.facts import facts_of
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.labels import UNNAMED
from onnxcompress.judging.question import Judged, Question
from onnxcompress.judging.questions import ask
from onnxcompress.judging.readings import Reading, joined
from onnxcompress.judging.score import OutputScore, Score, beside_itself, with_scores, worst_of
from onnxcompress.judging.scoring import constant_drop, score_question
from onnxcompress.measure.metric import CustomMetric, Form, Metric
from onnxcompress.measure.scoring import has_nan
from onnxcompress.measure.tally import Tally
from onnxcompress.progress import Advance

if TYPE_CHECKING:
    from onnxcompress.data.dataset import Dataset
    from onnxcompress.ir.model import Model
    from onnxcompress.runtime.session import Session


_Read = dict[tuple[Reading, tuple[str, ...]], Any]
"""What a batch says, by how it is read; two questions may ask the same of it."""


@dataclass
class _Answers:
    """What a model answers to one question, batch by batch.

    Attributes:
        parts: what was read and kept, where the question compares with the reference.
        tallies: what was counted, where it compares with labels batch by batch.
        shapes: of the chunks.
        samples: how many samples were read.
        problem: why the model cannot be judged, as soon as there is a reason.
    """

    parts: list[Any]
    tallies: list[Tally]
    shapes: list[tuple[int, ...]]
    samples: int = 0
    problem: str | None = None


class Evaluation:
    """Judges models beside one reference on the same samples.

    What each output of the reference says is inferred from its first samples, see `inference`. A
    metric that compares values with labels counts each batch as it comes and lets go of it: the
    logits of a language model take 50 MB for 256 tokens. The others keep what they read of the
    reference's outputs.

    Args:
        reference: the model that the others are compared with.
        data: the samples.
        batch_size: samples at once, where the model leaves the choice.
        metric: instead of the default ones, where it applies; one of the user's own sees all
            outputs and is the only one.
        model: the reference's graph, from which operators are told.
        judged: outputs to restrict to, or to judge otherwise.
        states: whether to judge what goes back in as well.
        metric_must_apply: whether a metric that applies to no output is an error.
        questions: those of another evaluation of the same reference, instead of all that.
        confidence: of the intervals.
        seed: of the resampling.
        progress: told after each batch of the reference.

    Raises:
        DataError: the metric and the data do not fit.
        SessionError: the reference does not run.
    """

    def __init__(
        self,
        reference: Session,
        data: Dataset,
        batch_size: int,
        metric: Metric | CustomMetric | None = None,
        *,
        model: Model | None = None,
        judged: Sequence[Judged] = (),
        states: bool = True,
        metric_must_apply: bool = True,
        questions: Sequence[Question] | None = None,
        confidence: float = 0.95,
        seed: int = 0,
        progress: Advance | None = None,
    ) -> None:
        self._data, self._batch_size = data, batch_size
        self._confidence, self._seed = confidence, seed
        self._custom: CustomEvaluation | None = None
        if isinstance(metric, CustomMetric):
            self._custom = CustomEvaluation(
                metric, reference, data, batch_size, confidence, seed, progress
            )
            self.questions: tuple[Question, ...] = ()
            return
        names = [output.name for output in reference.outputs]
        looked, batch_first, count = look(reference, data, batch_size, names)
        self._labels = _labels_of(data)
        if questions is None:
            questions = ask(
                facts_of(reference.outputs, reference.inputs, looked, batch_first, model),
                self._labels,
                looked=count,
                reads_text=all(not is_float(each.dtype) for each in reference.inputs),
                metric=metric,
                judged=judged,
                metric_must_apply=metric_must_apply,
            )
        self.questions = tuple(
            each for each in questions if states or each.kind is not OutputKind.STATE
        )
        scores = [each.scores for each in self.questions if each.scores is not None]
        self._asked = (*self.questions, *scores)
        if not self.questions:
            raise DataError("the model has no output that could be judged")
        wanted = {name for question in self.questions for name in question.outputs}
        self._wanted = {name: first for name, first in batch_first.items() if name in wanted}
        self._reference = self._answers(reference, None, progress)
        for question, answers in zip(self._asked, self._reference, strict=True):
            if answers.problem:
                raise DataError(
                    f"output {question.name!r} of the original itself {answers.problem}, so "
                    f"nothing compares with it; choose other data or outputs (--judge)"
                )
        self._constants = {
            question: constant_drop(question, *self._target(question, answers))
            for question, answers in zip(self._asked, self._reference, strict=True)
        }
        self._own = beside_itself(self._score(self._reference))

    @property
    def metric(self) -> str:
        """The names of the metrics, each once, in the order of the outputs."""
        if self._custom is not None:
            return self._custom.name
        return ", ".join(dict.fromkeys(each.metric.name for each in self.questions))

    def score(self, candidate: Session, progress: Advance | None = None) -> Score:
        """The accuracy of a model beside the reference's.

        Raises:
            DataError: a metric of the user's own fails.
            SessionError: the model does not run.
        """
        if self._custom is not None:
            return self._custom.score(candidate, progress)
        return self._score(self._answers(candidate, self._reference, progress))

    def reference_score(self) -> Score:
        """The reference beside itself, without running it again."""
        return self._custom.reference_score() if self._custom is not None else self._own

    def _answers(
        self, session: Session, like: Sequence[_Answers] | None, progress: Advance | None
    ) -> list[_Answers]:
        found = [_Answers([], [], []) for _ in self._asked]
        done = kept = 0
        for count, outputs in chunks(session, self._data, self._batch_size, self._wanted):
            read: _Read = {}
            for index, (question, answers) in enumerate(zip(self._asked, found, strict=True)):
                if answers.problem or (question.samples or len(self._data)) <= answers.samples:
                    continue
                shapes = like[index].shapes if like is not None else None
                kept += self._take(question, answers, outputs, shapes, read)
            done += count
            if like is None:
                require_memory(kept, done, len(self._data))
            if progress is not None:
                progress(done, len(self._data))
        return found

    def _score(self, found: Sequence[_Answers]) -> Score:
        scores: dict[Question, OutputScore] = {}
        for question, answers, reference in zip(self._asked, found, self._reference, strict=True):
            theirs, target = self._target(question, reference)
            ours, problem = None, answers.problem
            if problem is None:
                ours = answers.tallies or joined(answers.parts)
            scores[question] = score_question(
                question,
                ours,
                theirs,
                target,
                problem=problem,
                confidence=self._confidence,
                seed=self._seed,
                constant=self._constants[question],
            )
        return worst_of(
            [
                scores[each]
                if each.scores is None
                else with_scores(scores[each], scores[each.scores])
                for each in self.questions
            ]
        )

    def _take(
        self,
        question: Question,
        answers: _Answers,
        outputs: dict[str, np.ndarray],
        like: Sequence[tuple[int, ...]] | None,
        seen: _Read,
    ) -> int:
        """Reads what a batch says to a question and returns how many bytes more of it are kept."""
        picked = {name: outputs[name] for name in question.outputs}
        first = picked[question.outputs[0]]
        if any(has_nan(array) for array in picked.values()):
            answers.problem = "holds NaN"
            return 0
        place = len(answers.shapes)
        if like is not None and question.reading.keeps_shape and first.shape != like[place]:
            answers.problem = f"has shape {first.shape} where the original's has {like[place]}"
            return 0
        answers.shapes.append(first.shape)
        begin = answers.samples
        answers.samples += len(first)
        key = (question.reading, question.outputs)
        is_new = key not in seen
        if is_new:
            seen[key] = question.reading.read(picked, question.outputs)
        read = seen[key]
        if _is_counted(question):
            assert question.labels is not None  # see _is_counted
            target = self._labels[question.labels][begin : answers.samples]
            answers.tallies.append(question.metric.tally(read, target))
            return 0
        answers.parts.append(read)
        if not is_new:
            return 0
        return sum(each.nbytes for each in read if isinstance(each, np.ndarray))

    def _target(self, question: Question, reference: _Answers) -> tuple[Any, Any]:
        """What the reference answers, and what answers are compared with."""
        theirs = reference.tallies or joined(reference.parts)
        if question.labels is not None:
            return theirs, self._labels[question.labels][: reference.samples]
        return theirs, theirs


def _is_counted(question: Question) -> bool:
    """Whether each batch can be counted and let go of."""
    return question.labels is not None and question.metric.form is Form.VALUES


def _labels_of(data: Dataset) -> dict[str, np.ndarray]:
    """Labels by output; see `questions.Labels`."""
    found = {name: data.labels_of(name) for name in data.labelled_outputs}
    found[UNNAMED] = data.labels
    return {name: labels for name, labels in found.items() if labels is not None}
