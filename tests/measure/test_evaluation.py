from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from onnx import parser

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import DataError
from onnxcompress.measure import predictions
from onnxcompress.measure.accuracy import evaluate
from onnxcompress.measure.evaluation import Evaluation
from onnxcompress.measure.metrics import METRICS, CustomMetric
from onnxcompress.measure.predictions import predict
from onnxcompress.runtime.session import Session

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
RNG = np.random.default_rng(3)
X = RNG.standard_normal((23, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 23)
MODEL = """g (float[{batch}, 4] x) => (float[{batch}, 4] y, float[{batch}, 4] z) {{
    n = Constant<value_float = {slope}>()
    double = Add(x, x)
    bent = Sin(double)
    scaled = Mul(bent, n)
    y = Add(x, scaled)
    z = Neg(x)
  }}"""


class Watched(Session):
    """A session that remembers which outputs it was asked for."""

    def __init__(self, text: str) -> None:
        super().__init__(parser.parse_model(f"{HEAD} {text}").SerializeToString())
        self.asked: set[tuple[str, ...] | None] = set()

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        self.asked.add(None if outputs is None else tuple(outputs))
        return super().run(feeds, outputs)


def _model(slope: float, batch: str = "N") -> Watched:
    return Watched(MODEL.format(slope=slope, batch=batch))


def _data(session: Session, **labels: np.ndarray) -> Dataset:
    return dataset_of({"x": X, **labels}, session.inputs)


@pytest.mark.parametrize("batch", ["N", "5"])
@pytest.mark.parametrize("name", list(METRICS))
def test_counting_by_batches_agrees_with_judging_all_at_once(name: str, batch: str) -> None:
    reference, candidate = _model(0.0, batch), _model(2.0, batch)
    labels = X + 1 if name == "mse" else LABELS
    data = _data(reference, labels=labels)
    if name == "top5":
        with pytest.raises(DataError, match="top5 needs an output of more than 5 classes"):
            Evaluation(reference, data, 5, METRICS[name])
        return
    evaluation = Evaluation(reference, data, 5, METRICS[name])
    outputs = [predict(session, data, 5) for session in (candidate, reference)]
    score, wanted = evaluation.score(candidate), evaluate(METRICS[name], *outputs, labels)
    assert score.value == pytest.approx(wanted.value, rel=1e-12)
    assert score.drop == pytest.approx(wanted.drop, rel=1e-12)
    assert score.drop_interval == pytest.approx(wanted.drop_interval, rel=1e-12)
    assert score.drop != 0
    assert evaluation.reference_score().drop == 0


@pytest.mark.parametrize("name", ["perplexity", "cosine", None])
def test_only_the_output_that_is_looked_at_is_fetched(name: str | None) -> None:
    reference, candidate = _model(0.0), _model(0.5)
    data = _data(reference, labels=LABELS)
    evaluation = Evaluation(reference, data, 4, METRICS[name] if name else None)
    evaluation.score(candidate)
    assert reference.asked == candidate.asked == {("y",)}
    assert evaluation.metric.name == (name or "top1")


def test_a_custom_metric_sees_all_outputs() -> None:
    reference = _model(0.0)
    mine = CustomMetric(name="m:f", function=lambda outputs, _: float(outputs["z"].mean()))
    assert Evaluation(reference, _data(reference), 4, mine).reference_score().value == (
        pytest.approx(-X.mean(), rel=1e-5)
    )
    assert reference.asked == {None}


def test_without_labels_the_reference_is_what_is_compared_with() -> None:
    reference, candidate = _model(0.0), _model(0.5)
    score = Evaluation(reference, _data(reference), 4, METRICS["mse"]).score(candidate)
    assert score.value == pytest.approx(np.mean((0.5 * np.sin(2 * X.astype(np.float64))) ** 2))
    with pytest.raises(DataError, match="perplexity needs labels, and the data hold none"):
        Evaluation(reference, _data(reference), 4, METRICS["perplexity"])


def test_nan_and_another_shape_are_an_infinite_drop() -> None:
    reference = _model(0.0)
    evaluation = Evaluation(reference, _data(reference, labels=LABELS), 4, METRICS["top1"])
    wider = Watched("g (float[N, 4] x) => (float[N, 8] y) { y = Concat<axis = 1>(x, x) }")
    root = Watched("g (float[N, 4] x) => (float[N, 4] y) { y = Sqrt(x) }")
    for broken in (wider, root):
        score = evaluation.score(broken)
        assert (score.value, score.drop) == (0, np.inf)
    with pytest.raises(DataError, match="output 'y' of the reference itself holds NaN"):
        Evaluation(root, _data(root, labels=LABELS), 4, METRICS["top1"])


def test_outputs_that_memory_cannot_hold_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictions, "available_bytes", lambda: 100)
    reference = _model(0.0)
    with pytest.raises(DataError, match=r"outputs for 23 samples .* give fewer samples"):
        Evaluation(reference, _data(reference), 4, METRICS["cosine"])
    # What is counted is not kept.
    Evaluation(reference, _data(reference, labels=LABELS), 4, METRICS["perplexity"])
