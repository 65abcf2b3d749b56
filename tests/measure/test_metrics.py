import math
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxcompress.errors import DataError, RecipeError
from onnxcompress.measure.accuracy import evaluate
from onnxcompress.measure.metrics import METRICS, CustomMetric, resolve_metric
from onnxcompress.measure.predictions import Predictions

RNG = np.random.default_rng(11)
N, C = 300, 7
REFERENCE = RNG.standard_normal((N, C)).astype(np.float32)
CANDIDATE = (REFERENCE + 0.3 * RNG.standard_normal((N, C))).astype(np.float32)
LABELS = np.where(RNG.random(N) < 0.8, REFERENCE.argmax(axis=1), RNG.integers(0, C, N))


def _of(output: np.ndarray) -> Predictions:
    return Predictions(outputs={"y": output}, samples=len(output))


def _hits(outputs: dict[str, np.ndarray], labels: np.ndarray) -> float:
    return float(np.mean(outputs["y"].argmax(axis=1) == labels))


def test_a_custom_metric_is_like_a_built_in_one() -> None:
    mine = CustomMetric(name="m:hits", function=_hits)
    score = evaluate(mine, _of(CANDIDATE), _of(REFERENCE), LABELS)
    known = evaluate(METRICS["top1"], _of(CANDIDATE), _of(REFERENCE), LABELS)
    assert (score.value, score.reference_value) == (known.value, known.reference_value)
    assert score.drop == pytest.approx(known.drop)
    np.testing.assert_allclose(score.drop_interval, known.drop_interval, atol=0.02)


def test_a_custom_metric_and_nan() -> None:
    mine = CustomMetric(name="m:f", function=lambda outputs, _: float(outputs["y"].mean()))
    broken = CANDIDATE.copy()
    broken[0, 0] = np.nan
    score = evaluate(mine, _of(broken), _of(REFERENCE), None)
    assert (score.value, score.drop) == (-math.inf, math.inf)
    with pytest.raises(DataError, match="m:f: it gives NaN for the reference itself"):
        evaluate(mine, _of(CANDIDATE), _of(broken), None)


def test_a_custom_metric_that_fails() -> None:
    mine = CustomMetric(name="m:f", function=lambda outputs, _: outputs["nothing"])
    with pytest.raises(DataError, match="m:f: it failed: KeyError: 'nothing'"):
        evaluate(mine, _of(CANDIDATE), _of(REFERENCE), None)


def test_metrics_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_metric("f1") is METRICS["f1"]
    (tmp_path / "my_metric_x.py").write_text("def half(outputs, labels):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    mine = resolve_metric("my_metric_x:half")
    monkeypatch.delitem(sys.modules, "my_metric_x")
    assert isinstance(mine, CustomMetric)
    assert evaluate(mine, _of(CANDIDATE), _of(REFERENCE), None).drop == 0
    with pytest.raises(RecipeError, match="there is no metric 'top3'; choose from top1, top5, f1"):
        resolve_metric("top3")
