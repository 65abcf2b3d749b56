"""Runs models over a dataset and judges them, keeping no more of their outputs than that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnxcompress.data.casting import Kind, kind_of
from onnxcompress.errors import DataError
from onnxcompress.measure.accuracy import Score, check_reference, default_metric, evaluate, score
from onnxcompress.measure.metrics import CustomMetric, Metric, Target
from onnxcompress.measure.predictions import Predictions, Runnable, batch_outputs, predict
from onnxcompress.measure.scoring import has_nan
from onnxcompress.measure.tally import Tally
from onnxcompress.progress import Advance

if TYPE_CHECKING:
    from onnxcompress.data.dataset import Dataset
    from onnxcompress.runtime.session import Session, TensorSignature

_Shapes = list[tuple[int, ...]]


class Evaluation:
    """Judges models beside one reference on the same samples.

    Only the output that the metric looks at is fetched; a custom metric gets all. A metric that
    compares with labels counts each batch as it comes and lets go of it: the logits of a language
    model take 50 MB for 256 tokens. The others keep the reference's outputs.

    Args:
        reference: the model that the others are compared with.
        data: the samples.
        batch_size: samples at once, where the model leaves the choice.
        metric: None chooses by the first batch, see `default_metric`.
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
        progress: Advance | None = None,
    ) -> None:
        self._data, self._batch_size, self._labels = data, batch_size, data.labels
        self._output = (
            None if isinstance(metric, CustomMetric) else output_of_numbers(reference.outputs)
        )
        self.metric = metric or self._default(reference)
        self._counts: tuple[Tally, _Shapes] | None = None
        if isinstance(self.metric, Metric) and self._is_counted(self.metric):
            self._counts = self._counted(self.metric, reference, None, progress)
            if self._counts is None:
                raise DataError(
                    f"output {self._output!r} of the reference itself holds NaN, so nothing "
                    f"compares with it; choose other data"
                )
            check_reference(self.metric, self._counts[0], str(self._output))
        else:
            self._reference = self._predictions(reference, progress)

    def score(self, candidate: Session, progress: Advance | None = None) -> Score:
        """The accuracy of a model beside the reference's.

        Raises:
            DataError: see `accuracy.evaluate`.
            SessionError: the model does not run.
        """
        if self._counts is None or isinstance(self.metric, CustomMetric):
            predictions = self._predictions(candidate, progress)
            return evaluate(self.metric, predictions, self._reference, self._labels)
        theirs, shapes = self._counts
        counted = self._counted(self.metric, candidate, shapes, progress)
        return score(self.metric, counted[0] if counted else None, theirs)

    def reference_score(self) -> Score:
        """The reference beside itself, without running it again."""
        if self._counts is None or isinstance(self.metric, CustomMetric):
            return evaluate(self.metric, self._reference, self._reference, self._labels)
        return score(self.metric, self._counts[0], self._counts[0])

    def _default(self, reference: Session) -> Metric:
        first = next(self._data.batches(self._batch_size))
        look = self._data.take(range(first.count))
        return default_metric(
            predict(reference, look, self._batch_size, outputs=self._names), first.labels
        )

    @property
    def _names(self) -> list[str] | None:
        return None if self._output is None else [self._output]

    def _is_counted(self, metric: Metric) -> bool:
        stands_in = self._labels is None and metric.without_labels is not None
        return metric.target is Target.LABELS and not stands_in

    def _predictions(self, session: Runnable, progress: Advance | None) -> Predictions:
        return predict(
            session, self._data, self._batch_size, outputs=self._names, progress=progress
        )

    def _counted(
        self, metric: Metric, session: Runnable, like: _Shapes | None, progress: Advance | None
    ) -> tuple[Tally, _Shapes] | None:
        """What the metric counts and the shapes of the outputs, in order.

        Returns:
            None as soon as an output holds NaN, or is not of the shape that `like` tells.
        """
        if self._labels is None:
            raise DataError(f"{metric.name} needs labels, and the data hold none; use agreement")
        tallies: list[Tally] = []
        shapes: _Shapes = []
        done = 0
        for batch, outputs in batch_outputs(session, self._data, self._batch_size, self._names):
            (output,) = outputs.values()
            if has_nan(output.array) or (like and output.array.shape != like[len(shapes)]):
                return None
            labels = self._labels[done : done + batch.count]
            tallies.append(metric.tally(output.array, labels))
            shapes.append(output.array.shape)
            done += batch.count
            if progress is not None:
                progress(done, len(self._data))
        return type(tallies[0]).joined(tallies), shapes


def output_of_numbers(outputs: Sequence[TensorSignature]) -> str:
    """The first output of floats, or else of integers, as `accuracy.chosen_output` chooses.

    Raises:
        DataError: there is neither.
    """
    for kind in (Kind.FLOAT, Kind.INTEGER):
        for output in outputs:
            if kind_of(np.dtype(output.dtype)) is kind:
                return output.name
    raise DataError("the model has no output of numbers; use module:function for your own metric")
