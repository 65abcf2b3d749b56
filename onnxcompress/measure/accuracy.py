"""How much worse a candidate is than the reference, with an interval; one meaning of *drop*.

A drop is what is lost, so more is worse, 0 is as good as the reference and below 0 is better:

- `top1`, `top5`, `f1`, custom metrics: the reference's value minus the candidate's.
- `cosine`, `agreement`: 1 minus the value, since they compare with the reference's own outputs.
- `sqnr`: power of the difference over power of the reference's outputs (0.01 at 20 dB).
- `mse` with labels: the relative increase of the error; without labels: the mean squared difference
  over the mean square of the reference's outputs.
- `perplexity`: its relative increase; 0.05 is a perplexity 5 % higher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from onnxcompress.data.callables import describe
from onnxcompress.data.casting import Kind, is_float, kind_of
from onnxcompress.errors import DataError
from onnxcompress.measure.bootstrap import RESAMPLES, interval, resample_indices, resample_weights
from onnxcompress.measure.metrics import METRICS, CustomMetric, Metric, Target
from onnxcompress.measure.predictions import Output, Predictions
from onnxcompress.measure.scoring import has_nan, same_infinities, same_shapes
from onnxcompress.measure.tally import Tally, Weights

# A custom metric is called for every resample, so it gets fewer.
CUSTOM_RESAMPLES: Final = 200


@dataclass(frozen=True, kw_only=True)
class Score:
    """A candidate's accuracy beside the reference's.

    Attributes:
        value: the candidate's; the worst possible one where it cannot be judged.
        reference_value: the reference's own (1.0 for cosine and agreement, infinite for sqnr).
        drop: see this module; infinite for a candidate whose outputs hold NaN or changed shape.
        drop_interval: 95 % of the drop over resampled samples, both models on the same ones.
    """

    value: float
    reference_value: float
    drop: float
    drop_interval: tuple[float, float]


def evaluate(
    metric: Metric | CustomMetric,
    candidate: Predictions,
    reference: Predictions,
    labels: np.ndarray | None,
    *,
    output: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """Judges a candidate against the reference on the same samples.

    Args:
        metric: from `METRICS`, or of the user's own.
        candidate: what the candidate gave.
        reference: what the reference gave for the same samples in the same order.
        labels: one for each sample; metrics that compare with the reference pass them over.
        output: the output to look at; None means the first one of floats, or else of integers. A
            custom metric sees all.
        seed: of the resampling.
        resamples: how many; a custom metric gets `CUSTOM_RESAMPLES` at most.

    Raises:
        DataError: labels are missing or do not fit, there is no such output, the reference itself
            holds NaN, the two saw different numbers of samples, or a custom metric fails.
    """
    if candidate.samples != reference.samples:
        raise DataError(
            f"the candidate saw {candidate.samples} samples and the reference {reference.samples}"
        )
    if labels is not None and len(labels) != reference.samples:
        raise DataError(f"there are {len(labels)} labels for {reference.samples} samples")
    if isinstance(metric, CustomMetric):
        rng = np.random.default_rng(seed)
        rounds = min(resamples, CUSTOM_RESAMPLES)
        return _evaluate_custom(metric, candidate, reference, labels, rng, rounds)
    if labels is None and metric.without_labels is not None:
        metric = metric.without_labels
    name = chosen_output(reference) if output is None else output
    theirs, ours = reference.output(name), candidate.output(name)
    if has_nan(theirs):
        raise DataError(
            f"output {name!r} of the reference itself holds NaN, so nothing compares with it; "
            f"choose another output or other data"
        )
    target: Output = theirs
    if metric.target is Target.LABELS:
        if labels is None:
            raise DataError(f"{metric.name} needs labels, and the data hold none; use agreement")
        target = labels
    reference_tally = metric.tally(theirs, target)
    check_reference(metric, reference_tally, name)
    comparable = _comparable(metric, ours, theirs)
    tally = metric.tally(ours, target) if comparable else None
    return score(metric, tally, reference_tally, seed=seed, resamples=resamples)


def check_reference(metric: Metric, tally: Tally, output: str) -> None:
    """Checks that the reference is one to compare with.

    Raises:
        DataError: by the labels, its outputs are infinitely wrong.
    """
    if metric.target is Target.LABELS and not math.isfinite(_value(metric, tally)):
        raise DataError(f"output {output!r} of the reference is infinite, so {metric.name} is too")


def score(
    metric: Metric,
    candidate: Tally | None,
    reference: Tally,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """Judges a candidate by what was counted for each sample, for both in the same order.

    Args:
        metric: that both were counted for.
        candidate: None for outputs that cannot be judged (NaN, another shape).
        reference: whose value is finite where it is compared with labels.
        seed: of the resampling.
        resamples: how many.
    """
    reference_value = _value(metric, reference)
    once = _once(reference)
    # Resampling would make NaN of an infinite count that is not drawn.
    if candidate is None or np.isinf(candidate.sums(once)).any():
        return _failed(metric.worst, reference_value)
    drops = [
        metric.drop(candidate.sums(weights), reference.sums(weights))
        for weights in resample_weights(reference.samples, resamples, np.random.default_rng(seed))
    ]
    return Score(
        value=_value(metric, candidate),
        reference_value=reference_value,
        drop=float(metric.drop(candidate.sums(once), reference.sums(once))[0]),
        drop_interval=interval(np.concatenate(drops)),
    )


def default_metric(
    reference: Predictions, labels: np.ndarray | None, *, output: str | None = None
) -> Metric:
    """Chooses a metric by the looks of the reference's output and the labels.

    Class numbers that fit the output's scores: top1. Float labels: mse. Otherwise the comparison
    with the reference: agreement for scores of rank 2 with two classes or more, else cosine.

    Raises:
        DataError: there is no such output.
    """
    theirs = reference.output(chosen_output(reference) if output is None else output)
    shape = theirs.shape if isinstance(theirs, np.ndarray) else ()
    if labels is not None and is_float(labels.dtype):
        return METRICS["mse"]
    if labels is not None and kind_of(labels.dtype) is Kind.INTEGER and len(shape) >= 2:
        squeezed = labels.shape[:-1] if labels.shape[1:] == (1,) else labels.shape
        if shape[-1] >= 2 and squeezed == shape[:-1]:
            return METRICS["top1"]
    if len(shape) == 2 and shape[-1] >= 2:
        return METRICS["agreement"]
    return METRICS["cosine"]


def chosen_output(predictions: Predictions) -> str:
    """The first output of floats, or else of integers.

    Raises:
        DataError: there is neither.
    """
    for kind in (Kind.FLOAT, Kind.INTEGER):
        for name, output in predictions.outputs.items():
            first = output[0] if isinstance(output, list) and output else output
            if isinstance(first, np.ndarray) and kind_of(first.dtype) is kind:
                return name
    raise DataError("the model has no output of numbers; use module:function for your own metric")


def _once(tally: Tally) -> Weights:
    """Every sample as often as it was seen."""
    return np.ones((1, tally.samples), dtype=np.int64)


def _value(metric: Metric, tally: Tally) -> float:
    return float(metric.value(tally.sums(_once(tally)))[0])


def _comparable(metric: Metric, ours: Output, theirs: Output) -> bool:
    if has_nan(ours) or not same_shapes(ours, theirs):
        return False
    return not metric.compares_values or same_infinities(ours, theirs)


def _failed(worst: float, reference_value: float) -> Score:
    return Score(
        value=worst,
        reference_value=reference_value,
        drop=math.inf,
        drop_interval=(math.inf, math.inf),
    )


def _evaluate_custom(
    metric: CustomMetric,
    candidate: Predictions,
    reference: Predictions,
    labels: np.ndarray | None,
    rng: np.random.Generator,
    resamples: int,
) -> Score:
    reference_value = _call(metric, reference, labels)
    if math.isnan(reference_value):
        raise DataError(f"{metric.name}: it gives NaN for the reference itself")
    newly_nan = any(
        has_nan(output) and not has_nan(reference.output(name))
        for name, output in candidate.outputs.items()
    )
    value = math.nan if newly_nan else _call(metric, candidate, labels)
    if math.isnan(value):
        return _failed(-math.inf, reference_value)
    drops = []
    for drawn in resample_indices(reference.samples, resamples, rng):
        for indices in drawn:
            drop = _resampled_drop(metric, candidate, reference, labels, indices)
            if not math.isnan(drop):
                drops.append(drop)
    drop = reference_value - value
    return Score(
        value=value,
        reference_value=reference_value,
        drop=drop,
        drop_interval=interval(np.array(drops)) if drops else (drop, drop),
    )


def _resampled_drop(
    metric: CustomMetric,
    candidate: Predictions,
    reference: Predictions,
    labels: np.ndarray | None,
    indices: np.ndarray,
) -> float:
    """The drop on some samples, NaN where it is not defined (a class is missing, say)."""
    drawn = None if labels is None else labels[indices]
    try:
        theirs = _call(metric, _drawn(reference, indices), drawn)
        return theirs - _call(metric, _drawn(candidate, indices), drawn)
    except DataError:
        return math.nan


def _drawn(predictions: Predictions, indices: np.ndarray) -> Predictions:
    outputs: dict[str, Output] = {}
    for name, output in predictions.outputs.items():
        if len(output) != predictions.samples:
            raise DataError(f"output {name!r} cannot be cut into samples")
        outputs[name] = (
            [output[index] for index in indices] if isinstance(output, list) else output[indices]
        )
    return Predictions(outputs=outputs, samples=predictions.samples)


def _call(metric: CustomMetric, predictions: Predictions, labels: Any) -> float:
    try:
        return float(metric.function(dict(predictions.outputs), labels))
    except Exception as fault:
        raise DataError(f"{metric.name}: it failed: {describe(fault)}") from fault
