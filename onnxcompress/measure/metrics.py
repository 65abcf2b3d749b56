"""The metrics that a budget can be set in, and what a drop means for each."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from onnxcompress.data.callables import import_function, names_function
from onnxcompress.errors import RecipeError
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.scoring import (
    agreement_tally,
    confusion_tally,
    cosine_tally,
    error_tally,
    likelihood_tally,
    top_tally,
)
from onnxcompress.measure.tally import Sums, Tally


class Target(enum.Enum):
    """What a model's outputs are compared with."""

    LABELS = "labels"
    REFERENCE = "the reference's outputs"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to judge outputs.

    Attributes:
        name: as a user writes it.
        title: what it says, in a few words.
        target: what outputs are compared with.
        tally: counts for each sample, from outputs and target.
        value: the metric, from sums of counts; one for each resample.
        drop: what is lost, from the candidate's sums and the reference's; one for each resample.
        worst: the value of outputs that cannot be judged (NaN, another shape).
        compares_values: an infinity is an error, where others only look which score is highest.
        without_labels: what stands in for it where there are no labels.
    """

    name: str
    title: str
    target: Target
    tally: Callable[[Output, Output], Tally]
    value: Callable[[Sums], np.ndarray]
    drop: Callable[[Sums, Sums], np.ndarray]
    worst: float
    compares_values: bool = False
    without_labels: Metric | None = None


@dataclass(frozen=True, kw_only=True)
class CustomMetric:
    """A function of the user's own.

    Attributes:
        name: `module:function`.
        function: takes outputs by name and the labels (None without any), gives a number of which
            higher is better.
    """

    name: str
    function: Callable[[dict[str, Any], Any], float]


def _ratio(over: np.ndarray, under: np.ndarray, empty: np.ndarray | float) -> np.ndarray:
    """A quotient; where `under` is zero, `empty`."""
    out = np.broadcast_to(np.asarray(empty, dtype=np.float64), over.shape).copy()
    np.divide(over, under, out=out, where=under != 0)
    return out


def _mean(sums: Sums) -> np.ndarray:
    return _ratio(sums[..., 0], sums[..., 1], 0.0)


def _macro_f1(sums: Sums) -> np.ndarray:
    """The mean over classes that are labelled or predicted at all."""
    hits, support = sums[..., 0, :], sums[..., 1, :] + sums[..., 2, :]
    by_class = _ratio(2 * hits, support, 0.0)
    return _ratio(by_class.sum(axis=-1), (support > 0).sum(axis=-1), 0.0)


def _decibels(sums: Sums) -> np.ndarray:
    noise, signal = sums[..., 0], sums[..., 2]
    ratio = _ratio(signal, noise, np.inf)
    decibels = np.full(ratio.shape, -np.inf)
    np.log10(ratio, out=decibels, where=ratio > 0)
    return 10 * decibels


def _lost(value: Callable[[Sums], np.ndarray]) -> Callable[[Sums, Sums], np.ndarray]:
    return lambda candidate, reference: value(reference) - value(candidate)


def _noise_to_target(candidate: Sums, _reference: Sums) -> np.ndarray:
    noise = candidate[..., 0]
    return _ratio(noise, candidate[..., 2], np.where(noise > 0, np.inf, 0.0))


def _relative_increase(candidate: Sums, reference: Sums) -> np.ndarray:
    more = candidate[..., 0] - reference[..., 0]
    return _ratio(more, reference[..., 0], np.where(more > 0, np.inf, 0.0))


def _perplexity(sums: Sums) -> np.ndarray:
    with np.errstate(over="ignore"):
        perplexity: np.ndarray = np.exp(_mean(sums))
    return perplexity


def _perplexity_increase(candidate: Sums, reference: Sums) -> np.ndarray:
    # Not the quotient of two perplexities, which may both be beyond any float.
    with np.errstate(over="ignore"):
        increase: np.ndarray = np.expm1(_mean(candidate) - _mean(reference))
    return increase


_MSE_TO_REFERENCE: Final = Metric(
    name="mse",
    title="mean squared difference from the reference's outputs",
    target=Target.REFERENCE,
    tally=error_tally,
    value=_mean,
    drop=_noise_to_target,
    worst=np.inf,
    compares_values=True,
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="top1",
                title="share of labels that get the highest score",
                target=Target.LABELS,
                tally=partial(top_tally, k=1),
                value=_mean,
                drop=_lost(_mean),
                worst=0.0,
            ),
            Metric(
                name="top5",
                title="share of labels among the five highest scores",
                target=Target.LABELS,
                tally=partial(top_tally, k=5),
                value=_mean,
                drop=_lost(_mean),
                worst=0.0,
            ),
            Metric(
                name="f1",
                title="F1 score, the mean over classes",
                target=Target.LABELS,
                tally=confusion_tally,
                value=_macro_f1,
                drop=_lost(_macro_f1),
                worst=0.0,
            ),
            Metric(
                name="mse",
                title="mean squared error against labels",
                target=Target.LABELS,
                tally=error_tally,
                value=_mean,
                drop=_relative_increase,
                worst=np.inf,
                compares_values=True,
                without_labels=_MSE_TO_REFERENCE,
            ),
            Metric(
                name="perplexity",
                title="exponential of the mean negative log-likelihood of labels under logits",
                target=Target.LABELS,
                tally=likelihood_tally,
                value=_perplexity,
                drop=_perplexity_increase,
                worst=np.inf,
            ),
            Metric(
                name="cosine",
                title="cosine of the angle to the reference's outputs, the mean over samples",
                target=Target.REFERENCE,
                tally=cosine_tally,
                value=_mean,
                drop=_lost(_mean),
                worst=-1.0,
                compares_values=True,
            ),
            Metric(
                name="sqnr",
                title="power of the reference's outputs over that of the difference, in dB",
                target=Target.REFERENCE,
                tally=error_tally,
                value=_decibels,
                drop=_noise_to_target,
                worst=-np.inf,
                compares_values=True,
            ),
            Metric(
                name="agreement",
                title="share of choices equal to the reference's",
                target=Target.REFERENCE,
                tally=agreement_tally,
                value=_mean,
                drop=_lost(_mean),
                worst=0.0,
            ),
        )
    }
)


def resolve_metric(name: str) -> Metric | CustomMetric:
    """Finds a metric by its name in `METRICS`, or imports `module:function`.

    Raises:
        RecipeError: there is none of that name.
        DataError: the function cannot be imported.
    """
    if name in METRICS:
        return METRICS[name]
    if names_function(name):
        return CustomMetric(name=name, function=import_function(name))
    raise RecipeError(
        f"there is no metric {name!r}; choose from {', '.join(METRICS)} or give module:function"
    )
