"""The metrics that a budget can be set in: one row each, which the command line is made of.

A drop is what is lost of the value, unless the row says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from onnxcompress.data.callables import import_function, names_function
from onnxcompress.errors import RecipeError
from onnxcompress.measure.average_precision import (
    average_precision_drop,
    average_precision_tally,
    average_precision_value,
)
from onnxcompress.measure.detection import (
    detection_drop,
    detection_f1,
    detection_tally,
    labelled_boxes,
)
from onnxcompress.measure.edit_distance import cer_tally, edit_drop, edit_value, wer_tally
from onnxcompress.measure.equality import equal_drop, equal_tally, equal_value
from onnxcompress.measure.metric import CustomMetric, Form, Metric, OwnMetric, Target
from onnxcompress.measure.numbers import (
    deviation_tally,
    kept_share,
    lost_spread,
    mean_error,
    root_mean_error,
    spread_tally,
)
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.rank_correlation import spearman_drop, spearman_tally, spearman_value
from onnxcompress.measure.ranking import (
    auc_drop,
    auc_tally,
    auc_value,
    decisions,
    eer_drop,
    eer_tally,
    eer_value,
)
from onnxcompress.measure.rates import lost, mean, ratio
from onnxcompress.measure.regions import mean_intersection, region_drop, region_tally
from onnxcompress.measure.retrieval import (
    label_recall_tally,
    neighbour_recall_tally,
    recall_drop,
    recall_value,
)
from onnxcompress.measure.scoring import (
    agreement_tally,
    confusion_tally,
    cosine_tally,
    error_tally,
    likelihood_tally,
    top_tally,
)
from onnxcompress.measure.similarity import (
    embedding_drop,
    embedding_tally,
    embedding_value,
    mean_vector,
)
from onnxcompress.measure.tally import Sums, Tally
from onnxcompress.measure.verification import verification_tally


def _macro_f1(sums: Sums) -> np.ndarray:
    """The mean over classes that are labelled or predicted at all."""
    hits, support = sums[..., 0, :], sums[..., 1, :] + sums[..., 2, :]
    by_class = ratio(2 * hits, support, 0.0)
    return ratio(by_class.sum(axis=-1), (support > 0).sum(axis=-1).astype(np.float64), 0.0)


def _decibels(sums: Sums) -> np.ndarray:
    noise, signal = sums[..., 0], sums[..., 2]
    power = ratio(signal, noise, np.inf)
    decibels = np.full(power.shape, -np.inf)
    np.log10(power, out=decibels, where=power > 0)
    return 10 * decibels


def _noise_to_target(candidate: Sums, _reference: Sums) -> np.ndarray:
    noise = candidate[..., 0]
    return ratio(noise, candidate[..., 2], np.where(noise > 0, np.inf, 0.0))


def _increase(value: Callable[[Sums], np.ndarray]) -> Callable[[Sums, Sums], np.ndarray]:
    """The drop where less is better, as a share of the reference's value."""

    def increase(candidate: Sums, reference: Sums) -> np.ndarray:
        own = value(reference)
        more = value(candidate) - own
        return ratio(more, own, np.where(more > 0, np.inf, 0.0))

    return increase


def _spread_lost(candidate: Sums, _reference: Sums) -> np.ndarray:
    return lost_spread(candidate)


def _root_spread_lost(candidate: Sums, _reference: Sums) -> np.ndarray:
    return np.asarray(np.sqrt(lost_spread(candidate)))


def _perplexity(sums: Sums) -> np.ndarray:
    with np.errstate(over="ignore"):
        perplexity: np.ndarray = np.exp(mean(sums))
    return perplexity


def _perplexity_increase(candidate: Sums, reference: Sums) -> np.ndarray:
    # Not the quotient of two perplexities, which may both be beyond any float.
    with np.errstate(over="ignore"):
        increase: np.ndarray = np.expm1(mean(candidate) - mean(reference))
    return increase


def _similarity_tally(output: Output, reference: Output) -> Tally:
    return embedding_tally(output, reference, mean_vector(reference))


def _boxes_tally(output: Any, labels: Any) -> Tally:
    return average_precision_tally(output, labelled_boxes(labels))


def _decided(tally: Callable[[Any, Any], Tally]) -> Callable[[Any, Any], Tally]:
    """With what the original decides in place of labels."""
    return lambda output, reference: tally(output, decisions(reference))


def _verified(output: Any, labels: Any) -> Tally:
    """Scores one by one where labels are 0 and 1 for each; pairs of vectors elsewhere."""
    vectors = np.ndim(output) == 2 and np.shape(output)[-1] > 2 and np.size(labels) == len(output)
    return verification_tally(output, labels) if vectors else eer_tally(output, labels)


def _either(
    metric: Metric, title: str, tally: Callable[[Any, Any], Tally] | None = None, **changes: Any
) -> Metric:
    """A metric that compares with the original's outputs where there are no labels."""
    beside = replace(
        metric,
        title=title,
        target=Target.REFERENCE,
        tally=tally or metric.tally,
        without_labels=None,
        **changes,
    )
    return replace(metric, without_labels=beside)


def recall_at(k: int) -> Metric:
    """Recall among the `k` nearest neighbours."""
    labelled = Metric(
        name=f"recall@{k}",
        title="share of vectors with a near neighbour of their label",
        target=Target.LABELS,
        tally=partial(label_recall_tally, k=k),
        value=recall_value,
        drop=recall_drop,
        worst=0.0,
        form=Form.VECTORS,
        most=1.0,
    )
    title = "share of the original's nearest neighbours that are found"
    return _either(labelled, title, partial(neighbour_recall_tally, k=k))


def top(k: int) -> Metric:
    """Labels among the `k` highest scores."""
    place = "that get the highest score" if k == 1 else f"among the {k} highest scores"
    return Metric(
        name=f"top{k}",
        title=f"share of labels {place}",
        target=Target.LABELS,
        tally=partial(top_tally, k=k),
        value=mean,
        drop=lost(mean),
        worst=0.0,
        counts_answers=True,
        most=1.0,
    )


_ROWS: Final = (
    top(1),
    top(5),
    Metric(
        name="f1",
        title="F1 score, the mean over classes",
        target=Target.LABELS,
        tally=confusion_tally,
        value=_macro_f1,
        drop=lost(_macro_f1),
        worst=0.0,
        most=1.0,
    ),
    Metric(
        name="agreement",
        title="share of choices equal to the original's",
        target=Target.REFERENCE,
        tally=agreement_tally,
        value=mean,
        drop=lost(mean),
        worst=0.0,
        form=Form.CLASSES,
        counts_answers=True,
        most=1.0,
    ),
    _either(
        Metric(
            name="auc",
            title="area under the ROC curve",
            target=Target.LABELS,
            tally=auc_tally,
            value=auc_value,
            drop=auc_drop,
            worst=0.0,
            most=1.0,
        ),
        "area under the ROC curve, the original's decisions being right",
        _decided(auc_tally),
    ),
    _either(
        Metric(
            name="eer",
            title="error rate where as many are wrongly accepted as rejected",
            target=Target.LABELS,
            tally=_verified,
            value=eer_value,
            drop=eer_drop,
            worst=1.0,
            most=1.0,
        ),
        "equal error rate, the original's decisions being right",
        _decided(eer_tally),
    ),
    _either(
        Metric(
            name="r2",
            title="share of the labels' variance that is explained, the worst tenth of the columns",
            target=Target.LABELS,
            tally=spread_tally,
            value=kept_share,
            drop=lost(kept_share),
            worst=0.0,
            form=Form.CHANNELS,
            most=1.0,
            compares_values=True,
        ),
        "share of the variance of the original's outputs that is kept, the worst tenth",
    ),
    _either(
        Metric(
            name="mae",
            title="mean absolute error against labels; a drop is its relative increase",
            target=Target.LABELS,
            tally=deviation_tally,
            value=mean_error,
            drop=_increase(mean_error),
            drop_is_relative=True,
            worst=np.inf,
            form=Form.CHANNELS,
            compares_values=True,
        ),
        "mean absolute difference from the original; a drop is its share of the mean deviation",
        drop=_spread_lost,
        drop_is_relative=False,
    ),
    _either(
        Metric(
            name="rmse",
            title="root of the mean squared error against labels; a drop is its relative increase",
            target=Target.LABELS,
            tally=spread_tally,
            value=root_mean_error,
            drop=_increase(root_mean_error),
            drop_is_relative=True,
            worst=np.inf,
            form=Form.CHANNELS,
            compares_values=True,
        ),
        "root of the mean squared difference; a drop is its share of the standard deviation",
        drop=_root_spread_lost,
        drop_is_relative=False,
    ),
    _either(
        Metric(
            name="mse",
            title="mean squared error against labels; a drop is its relative increase",
            target=Target.LABELS,
            tally=error_tally,
            value=mean,
            drop=_increase(mean),
            drop_is_relative=True,
            worst=np.inf,
            compares_values=True,
        ),
        "mean squared difference from the original; a drop is its share of the variance",
        drop=_noise_to_target,
        drop_is_relative=False,
    ),
    Metric(
        name="sqnr",
        title="power of what varies in the original's outputs over that of the difference, in dB",
        target=Target.REFERENCE,
        tally=error_tally,
        value=_decibels,
        drop=_noise_to_target,
        worst=-np.inf,
        compares_values=True,
    ),
    Metric(
        name="cosine",
        title="cosine of the angle to the original's outputs, both less the original's mean",
        target=Target.REFERENCE,
        tally=cosine_tally,
        value=mean,
        drop=lost(mean),
        worst=-1.0,
        most=2.0,
        compares_values=True,
    ),
    _either(
        Metric(
            name="spearman",
            title="correlation of ranks with labels, the mean over columns",
            target=Target.LABELS,
            tally=spearman_tally,
            value=spearman_value,
            drop=spearman_drop,
            worst=-1.0,
            most=2.0,
        ),
        "correlation of ranks with the original's outputs, the mean over columns",
    ),
    Metric(
        name="similarity",
        title="similarity of vectors to the original's, both less the original's mean",
        target=Target.REFERENCE,
        tally=_similarity_tally,
        value=embedding_value,
        drop=embedding_drop,
        worst=-1.0,
        form=Form.VECTORS,
        most=2.0,
        compares_values=True,
    ),
    recall_at(10),
    Metric(
        name="perplexity",
        title="exponential of the labels' mean negative log-likelihood; a drop is its relative "
        "increase",
        target=Target.LABELS,
        tally=likelihood_tally,
        value=_perplexity,
        drop=_perplexity_increase,
        drop_is_relative=True,
        worst=np.inf,
    ),
    _either(
        Metric(
            name="cer",
            title="edits of characters or tokens, as a share of those of the labels",
            target=Target.LABELS,
            tally=cer_tally,
            value=edit_value,
            drop=edit_drop,
            worst=np.inf,
            form=Form.SEQUENCES,
            most=1.0,
        ),
        "edits of characters or tokens, as a share of those that the original reads",
    ),
    _either(
        Metric(
            name="wer",
            title="edits of words, as a share of those of the labels",
            target=Target.LABELS,
            tally=wer_tally,
            value=edit_value,
            drop=edit_drop,
            worst=np.inf,
            form=Form.SEQUENCES,
            most=1.0,
        ),
        "edits of words, as a share of those of the original's text",
    ),
    _either(
        Metric(
            name="miou",
            title="intersection over union of each class, the mean over classes",
            target=Target.LABELS,
            tally=region_tally,
            value=mean_intersection,
            drop=region_drop,
            worst=0.0,
            form=Form.CLASSES,
            most=1.0,
        ),
        "intersection over union with each class of the original's, the mean over classes",
    ),
    _either(
        Metric(
            name="map",
            title="mean average precision of boxes, at overlaps from 0.5 to 0.95",
            target=Target.LABELS,
            tally=_boxes_tally,
            value=average_precision_value,
            drop=average_precision_drop,
            worst=0.0,
            form=Form.DETECTIONS,
            most=1.0,
        ),
        "F1 score of the boxes that the original finds",
        detection_tally,
        name="detection-f1",
        value=detection_f1,
        drop=detection_drop,
    ),
    Metric(
        name="detection-f1",
        title="F1 score of the boxes that the original finds",
        target=Target.REFERENCE,
        tally=detection_tally,
        value=detection_f1,
        drop=detection_drop,
        worst=0.0,
        form=Form.DETECTIONS,
        most=1.0,
    ),
    _either(
        Metric(
            name="equal",
            title="share of values equal to the labels",
            target=Target.LABELS,
            tally=equal_tally,
            value=equal_value,
            drop=equal_drop,
            worst=0.0,
            form=Form.ROWS,
            counts_answers=True,
            most=1.0,
        ),
        "share of values equal to the original's",
    ),
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({row.name: row for row in _ROWS})
"""By name. `top` and `recall@` take any number behind them, see `resolve_metric`."""


_FAMILIES: Final[Mapping[str, Callable[[int], Metric]]] = MappingProxyType(
    {"top": top, "recall@": recall_at}
)
_MOST: Final = 1_000_000


def resolve_metric(name: str | OwnMetric) -> Metric | CustomMetric:
    """Finds a metric by its name in `METRICS`, or imports `module:function`.

    Args:
        name: or the function itself, see `CustomMetric`.

    Raises:
        RecipeError: there is none of that name.
        DataError: the function cannot be imported.
    """
    if not isinstance(name, str):
        own = getattr(name, "__qualname__", type(name).__qualname__)
        return CustomMetric(name=f"{getattr(name, '__module__', '?')}:{own}", function=name)
    if name in METRICS:
        return METRICS[name]
    for prefix, family in _FAMILIES.items():
        number = name.removeprefix(prefix)
        if name.startswith(prefix) and number.isdecimal() and 0 < int(number) <= _MOST:
            return family(int(number))
    if names_function(name):
        return CustomMetric(name=name, function=import_function(name))
    raise RecipeError(
        f"there is no metric {name!r}; choose from {', '.join(METRICS)} or give module:function"
    )
