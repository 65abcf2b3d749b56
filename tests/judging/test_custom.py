"""A metric of the user's own."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import DataError
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.score import Score
from onnxcompress.measure.intervals import IntervalKind
from onnxcompress.measure.metric import CustomMetric, Metric, OwnMetric
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


WORDS = [np.array([[word]]) for word in RNG.choice(["cat", "dog", "owl"], 80)]
COUNTS = RNG.integers(0, 5, (80, 1))
MAPS = [[{"cat": float(x), "dog": 1 - float(x)}] for x in RNG.random(80)]


def _everything(words: list[np.ndarray], counts: np.ndarray) -> Scripted:
    maps = [np.array(each, dtype=object) for each in MAPS]
    return Scripted({"word": words, "count": counts, "scores": maps})


def _as_asked(outputs: dict[str, Any], labels: np.ndarray) -> float:
    """The share of samples of which the word, the number and the map are as they should be."""
    told = zip(outputs["word"], outputs["count"], outputs["scores"], labels, strict=True)
    return float(
        np.mean(
            [
                str(np.ravel(word)[0]) == label[0]
                and int(np.ravel(count)[0]) == int(label[1])
                and abs(sum(np.ravel(scores)[0].values()) - 1) < 1e-9
                for word, count, scores, label in told
            ]
        )
    )


class _Callable:
    """Any callable is a metric."""

    def __call__(self, outputs: dict[str, Any], labels: np.ndarray) -> float:
        return _as_asked(outputs, labels)


@pytest.mark.parametrize(
    "function", [_as_asked, _Callable(), _Callable().__call__, partial(_as_asked)]
)
def test_strings_whole_numbers_and_maps_reach_any_callable(function: OwnMetric) -> None:
    labels = np.array(
        [[str(word[0, 0]), str(count[0])] for word, count in zip(WORDS, COUNTS, strict=True)]
    )
    original = _everything(WORDS, COUNTS)
    data = dataset_of(
        {"sample": np.arange(80, dtype=np.float32)[:, None], "labels": labels}, original.inputs
    )
    metric = resolve_metric(function)
    evaluation = Evaluation(cast(Session, original), data, 1, metric)
    assert evaluation.reference_score().value == 1
    others = COUNTS.copy()
    others[:20] += 1
    score = evaluation.score(cast(Session, _everything(WORDS, others)))
    assert score.drop == pytest.approx(0.25)
    assert score.drop_interval[0] < 0.25 < score.drop_interval[1]
    words = [np.array([["yak"]]), *WORDS[1:]]
    assert evaluation.score(cast(Session, _everything(words, COUNTS))).drop == pytest.approx(1 / 80)
