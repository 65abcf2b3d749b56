"""A metric of the user's own."""

import math
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import DataError
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.score import Score
from onnxcompress.measure.intervals import IntervalKind
from onnxcompress.measure.metric import CustomMetric, Metric
from onnxcompress.measure.metrics import METRICS, resolve_metric
from onnxcompress.runtime.session import Session
from tests.judging.scripted import Scripted

RNG = np.random.default_rng(11)
N, C = 300, 7
REFERENCE = RNG.standard_normal((N, C)).astype(np.float32)
CANDIDATE = (REFERENCE + 0.3 * RNG.standard_normal((N, C))).astype(np.float32)
LABELS = np.where(RNG.random(N) < 0.8, REFERENCE.argmax(axis=1), RNG.integers(0, C, N))


def _score(
    metric: Metric | CustomMetric,
    candidate: np.ndarray,
    reference: np.ndarray,
    labels: np.ndarray | None = None,
) -> Score:
    original = Scripted({"y": reference})
    arrays: dict[str, Any] = {"sample": np.arange(len(reference), dtype=np.float32)[:, None]}
    if labels is not None:
        arrays["labels"] = labels
    data = dataset_of(arrays, original.inputs)
    evaluation = Evaluation(cast(Session, original), data, 16, metric)
    return evaluation.score(cast(Session, Scripted({"y": candidate})))


def _hits(outputs: dict[str, np.ndarray], labels: np.ndarray) -> float:
    return float(np.mean(outputs["y"].argmax(axis=1) == labels))


def test_it_is_like_a_built_in_one() -> None:
    score = _score(CustomMetric(name="m:hits", function=_hits), CANDIDATE, REFERENCE, LABELS)
    known = _score(METRICS["top1"], CANDIDATE, REFERENCE, LABELS)
    assert (score.value, score.reference_value) == (known.value, known.reference_value)
    assert score.drop == pytest.approx(known.drop)
    np.testing.assert_allclose(score.drop_interval, known.drop_interval, atol=0.03)
    (output,) = score.outputs
    assert (output.name, output.kind, output.metric) == ("all outputs", None, "m:hits")
    assert output.interval_kind is IntervalKind.BOOTSTRAP


def test_of_few_samples_the_interval_is_approximate() -> None:
    mine = CustomMetric(name="m:hits", function=_hits)
    score = _score(mine, CANDIDATE[:49], REFERENCE[:49], LABELS[:49])
    assert score.outputs[0].interval_kind is IntervalKind.APPROXIMATE


def test_nan() -> None:
    mine = CustomMetric(name="m:f", function=lambda outputs, _: float(outputs["y"].mean()))
    broken = CANDIDATE.copy()
    broken[0, 0] = np.nan
    score = _score(mine, broken, REFERENCE)
    assert (score.value, score.drop) == (-math.inf, math.inf)
    assert score.outputs[0].problem == "y holds NaN"
    with pytest.raises(DataError, match="m:f: it gives NaN for the reference itself"):
        _score(mine, CANDIDATE, broken)


def test_a_function_that_fails() -> None:
    mine = CustomMetric(name="m:f", function=lambda outputs, _: outputs["nothing"])
    with pytest.raises(DataError, match="m:f: it failed: KeyError: 'nothing'"):
        _score(mine, CANDIDATE, REFERENCE)


def test_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric_x.py").write_text("def half(outputs, labels):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    mine = resolve_metric("my_metric_x:half")
    monkeypatch.delitem(sys.modules, "my_metric_x")
    assert isinstance(mine, CustomMetric)
    assert _score(mine, CANDIDATE, REFERENCE).drop == 0
