"""Metrics by name, and what all rows of the table have in common."""

import numpy as np
import pytest

from onnxcompress.errors import RecipeError
from onnxcompress.measure.metric import Form, Metric, Target
from onnxcompress.measure.metrics import METRICS, resolve_metric


def test_metrics_are_found_by_name() -> None:
    assert resolve_metric("f1") is METRICS["f1"]
    third = resolve_metric("top3")
    assert isinstance(third, Metric)
    assert third.title == "share of labels among the 3 highest scores"
    fourth = resolve_metric("recall@4")
    assert isinstance(fourth, Metric)
    assert fourth.name == "recall@4"
    for name in (
        "top0",
        "top",
        "recall@",
        "recall@x",
        "recall@-1",
        "recall@1.5",
        "top1000001",
        "accuracy",
    ):
        with pytest.raises(RecipeError, match=f"there is no metric '{name}'; choose from top1, "):
            resolve_metric(name)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_top_k_for_any_k(k: int) -> None:
    rng = np.random.default_rng(k)
    scores, labels = rng.standard_normal((50, 7)), rng.integers(0, 7, 50)
    metric = resolve_metric(f"top{k}")
    assert isinstance(metric, Metric)
    sums = metric.tally(scores, labels).sums(np.ones((1, 50), dtype=np.int64))
    best = np.argsort(-scores, axis=1)[:, :k]
    assert metric.value(sums)[0] == pytest.approx((best == labels[:, None]).any(axis=1).mean())


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_what_stands_in_without_labels_compares_with_the_original(metric: Metric) -> None:
    if metric.without_labels is not None:
        assert metric.target is Target.LABELS
        assert metric.without_labels.target is Target.REFERENCE
        assert metric.without_labels.form is metric.form
        assert metric.without_labels.without_labels is None
    if metric.counts_answers:
        assert metric.most == 1
    if metric.form is Form.CHANNELS:
        assert metric.compares_values
