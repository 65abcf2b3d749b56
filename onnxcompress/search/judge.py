"""One way to measure models beside a baseline, for `compress` and `bench` alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from onnxcompress.data.dataset import Dataset
from onnxcompress.ir import io
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.question import Judged, Question
from onnxcompress.judging.score import Score
from onnxcompress.measure.bootstrap import CONFIDENCE
from onnxcompress.measure.latency import Latency, compare_latency
from onnxcompress.measure.metric import CustomMetric, Metric
from onnxcompress.measure.metrics import METRICS
from onnxcompress.measure.size import measure_size
from onnxcompress.progress import Progress
from onnxcompress.releases import demands, oldest_release
from onnxcompress.report.schema import ModelReport
from onnxcompress.runtime.ort_profile import executed_ops, surviving_qdq
from onnxcompress.runtime.session import Session, SessionSettings

LATENCY_SECONDS = 20.0
"""Time given to each comparison of latencies, for each model in it."""


class Judge:
    """Measures models on the same samples, beside the same baseline.

    Args:
        baseline: the model that all others are compared with.
        data: the samples.
        metric: how outputs are judged; None chooses by the looks of outputs and labels.
        judged: the outputs to judge, and how; none for all.
        like: a judge of the same baseline on other samples, who asks the same of each output.
        made_up: whether the samples are made up. They are not judged on then: all that is looked at
            is that a candidate computes about the same.
        confidence: of intervals.
        threads: threads that latency is measured with.
        batch_size: samples in a batch, for accuracy and latency both: dynamic quantization takes
            its ranges over a whole batch, so another size is another model.
        seed: of the resampling.
        progress: told how it gets on.

    Raises:
        SessionError: the baseline does not load or run.
        DataError: the metric and the data do not fit.

    Attributes:
        metric: the names of the metrics.
        baseline: as given; `progress` likewise.
    """

    def __init__(
        self,
        baseline: Path,
        data: Dataset,
        metric: Metric | CustomMetric | None = None,
        *,
        judged: Sequence[Judged] = (),
        like: Judge | None = None,
        made_up: bool = False,
        confidence: float = CONFIDENCE,
        threads: int,
        batch_size: int,
        seed: int = 0,
        progress: Progress,
    ):
        self.baseline = baseline
        self._data = data
        self._batch_size = batch_size
        self.progress = progress
        self._timed_with = SessionSettings(threads=threads)
        self._evaluation = Evaluation(
            self._on_all_cores(baseline),
            data,
            batch_size,
            METRICS["sqnr"] if made_up else metric,
            model=io.load(baseline),
            judged=judged,
            metric_must_apply=not made_up,
            questions=like.questions if like is not None else None,
            confidence=confidence,
            seed=seed,
            progress=progress.stage("Accuracy of original"),
        )
        self.metric = self._evaluation.metric
        self._scores = {baseline: self._evaluation.reference_score()}

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked of each output; nothing for a metric of the user's own."""
        return self._evaluation.questions

    @property
    def original(self) -> Score:
        """The baseline beside itself."""
        return self._scores[self.baseline]

    def _on_all_cores(self, path: Path) -> Session:
        return Session(path, SessionSettings(threads=psutil.cpu_count(logical=False) or 1))

    def score(self, path: Path, name: str) -> Score:
        """The accuracy of a model beside the baseline's."""
        if path not in self._scores:
            advance = self.progress.stage(f"Accuracy of {name}")
            self._scores[path] = self._evaluation.score(self._on_all_cores(path), advance)
        return self._scores[path]

    def latencies(self, paths: Sequence[Path], seconds: float | None = None) -> list[Latency]:
        """Times models beside the baseline, which is not named in `paths`; its own comes first.

        Args:
            paths: the others.
            seconds: for each model, at most; None for `LATENCY_SECONDS`.
        """
        sessions = [Session(path, self._timed_with) for path in (self.baseline, *paths)]
        each = LATENCY_SECONDS if seconds is None else seconds
        comparison = compare_latency(
            sessions,
            self.feed(),
            budget_seconds=each * len(sessions),
            progress=self.progress.stage("Latency, interleaved"),
        )
        return list(comparison.latencies)

    def report(self, path: Path, name: str, latency: Latency) -> ModelReport:
        """Everything about one model."""
        model = io.load(path)
        return ModelReport(
            name=name,
            nodes=sum(1 for _ in model.nodes()),
            parameters=model.parameters,
            size=measure_size(path, self.feed(), self._timed_with),
            score=self.score(path, name),
            latency=latency,
            executed_ops=executed_ops(path),
            surviving_qdq=surviving_qdq(path),
            oldest_onnxruntime=str(oldest_release(model)),
            demands=tuple(map(str, demands(model))),
        )

    def feed(self) -> dict[str, np.ndarray]:
        """The batch that latency is measured on: the first."""
        return next(self._data.batches(self._batch_size)).feeds
