"""A metric of the user's own: it sees all outputs and labels, and gives one number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from onnxcompress.data.callables import describe
from onnxcompress.errors import DataError
from onnxcompress.judging.score import OutputScore, Score, worst_of
from onnxcompress.measure.bootstrap import resample_indices
from onnxcompress.measure.intervals import IntervalKind
from onnxcompress.measure.metric import CustomMetric
from onnxcompress.measure.predictions import Output, Predictions, predict
from onnxcompress.measure.scoring import has_nan
from onnxcompress.progress import Advance

if TYPE_CHECKING:
    from onnxcompress.data.dataset import Dataset
    from onnxcompress.runtime.session import Session

RESAMPLES: Final = 200
"""It is called for every one of them, so there are few."""

_FEW: Final = 50


class CustomEvaluation:
    """Judges models beside one reference by a function.

    Args:
        metric: the function.
        reference: the model that the others are compared with.
        data: the samples.
        batch_size: samples at once, where the model leaves the choice.
        confidence: of the interval.
        seed: of the resampling.
        progress: told after each batch of the reference.

    Raises:
        DataError: the function fails, or gives NaN for the reference itself.
        SessionError: the reference does not run.
    """

    def __init__(
        self,
        metric: CustomMetric,
        reference: Session,
        data: Dataset,
        batch_size: int,
        confidence: float,
        seed: int,
        progress: Advance | None,
    ) -> None:
        self._metric, self._data, self._batch_size = metric, data, batch_size
        self._confidence, self._seed = confidence, seed
        self._labels = data.labels
        self._reference = predict(reference, data, batch_size, progress=progress)
        self._reference_value = self._call(self._reference, self._labels)
        if math.isnan(self._reference_value):
            raise DataError(f"{metric.name}: it gives NaN for the reference itself")

    @property
    def name(self) -> str:
        """`module:function`."""
        return self._metric.name

    def reference_score(self) -> Score:
        """The reference beside itself."""
        return self._scored(self._reference_value, 0.0, (0.0, 0.0), None)

    def score(self, candidate: Session, progress: Advance | None) -> Score:
        """A model beside the reference.

        Raises:
            DataError: the function fails.
            SessionError: the model does not run.
        """
        found = predict(candidate, self._data, self._batch_size, progress=progress)
        newly_nan = [
            name
            for name, output in found.outputs.items()
            if has_nan(output) and not has_nan(self._reference.output(name))
        ]
        problem = f"{', '.join(newly_nan)} holds NaN" if newly_nan else None
        value = math.nan if newly_nan else self._call(found, self._labels)
        if math.isnan(value):
            problem = problem or f"{self.name} gives NaN"
            return self._scored(-math.inf, math.inf, (math.inf, math.inf), problem)
        rng = np.random.default_rng(self._seed)
        drops = [
            drop
            for drawn in resample_indices(found.samples, RESAMPLES, rng)
            for indices in drawn
            if not math.isnan(drop := self._resampled_drop(found, indices))
        ]
        drop = self._reference_value - value
        bounds = (drop, drop)
        if drops:
            tail = (1 - self._confidence) / 2
            low, high = np.quantile(drops, [tail, 1 - tail], method="nearest")
            bounds = (float(low), float(high))
        return self._scored(value, drop, bounds, None)

    def _scored(
        self, value: float, drop: float, bounds: tuple[float, float], problem: str | None
    ) -> Score:
        few = len(self._data) < _FEW
        return worst_of(
            [
                OutputScore(
                    name="all outputs",
                    kind=None,
                    metric=self.name,
                    why="a function of the user's own looks at all outputs",
                    labelled=self._labels is not None,
                    value=value,
                    reference_value=self._reference_value,
                    drop=drop,
                    drop_interval=bounds,
                    interval_kind=IntervalKind.APPROXIMATE if few else IntervalKind.BOOTSTRAP,
                    problem=problem,
                )
            ]
        )

    def _resampled_drop(self, candidate: Predictions, indices: np.ndarray) -> float:
        """The drop on some samples, NaN where it is not defined (a class is missing, say)."""
        drawn = None if self._labels is None else self._labels[indices]
        try:
            theirs = self._call(_drawn(self._reference, indices), drawn)
            return theirs - self._call(_drawn(candidate, indices), drawn)
        except DataError:
            return math.nan

    def _call(self, predictions: Predictions, labels: Any) -> float:
        try:
            return float(self._metric.function(dict(predictions.outputs), labels))
        except Exception as fault:
            raise DataError(f"{self.name}: it failed: {describe(fault)}") from fault


def _drawn(predictions: Predictions, indices: np.ndarray) -> Predictions:
    outputs: dict[str, Output] = {}
    for name, output in predictions.outputs.items():
        if len(output) != predictions.samples:
            raise DataError(f"output {name!r} cannot be cut into samples")
        outputs[name] = (
            [output[index] for index in indices] if isinstance(output, list) else output[indices]
        )
    return Predictions(outputs=outputs, samples=predictions.samples)
