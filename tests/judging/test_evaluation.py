from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of
from onnxcompress.errors import DataError
from onnxcompress.judging import chunks
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.question import Judged
from onnxcompress.measure.metric import CustomMetric, Form, Target
from onnxcompress.measure.metrics import METRICS
from onnxcompress.runtime.session import Session
from tests.helpers import parse_model

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
        super().__init__(parse_model(f"{HEAD} {text}").SerializeToString())
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


COUNTED = [
    name
    for name, metric in METRICS.items()
    if metric.target is Target.LABELS and metric.form is Form.VALUES and name != "top5"
]


@pytest.mark.parametrize("batch", ["N", "5"])
@pytest.mark.parametrize("name", COUNTED)
def test_counting_by_batches_agrees_with_judging_all_at_once(name: str, batch: str) -> None:
    labels = {"mse": X + 1, "spearman": X[:, ::-1] + X}.get(name, LABELS)
    scores = []
    for size, at_once in ((batch, 5), ("N", 23)):
        reference, candidate = _model(0.0, size), _model(2.0, size)
        data = _data(reference, labels=labels)
        evaluation = Evaluation(reference, data, at_once, METRICS[name])
        assert evaluation.reference_score().drop == 0
        scores.append(evaluation.score(candidate).outputs[0])
    counted, whole = scores
    assert counted.metric == name and counted.labelled
    assert counted.value == pytest.approx(whole.value, rel=1e-12)
    assert counted.drop == pytest.approx(whole.drop, rel=1e-12)
    assert counted.drop_interval == pytest.approx(whole.drop_interval, rel=1e-12)
    assert counted.drop != 0


def test_top5_of_four_classes() -> None:
    reference = _model(0.0)
    with pytest.raises(DataError, match="top5 needs an output of more than 5 classes"):
        Evaluation(reference, _data(reference, labels=LABELS), 5, METRICS["top5"])


def test_every_output_is_judged_and_the_worst_is_the_score() -> None:
    reference, candidate = _model(0.0), _model(0.5)
    score = Evaluation(reference, _data(reference), 4).score(candidate)
    first, second = score.outputs
    assert (first.name, first.kind, first.metric) == ("y", OutputKind.NUMBERS, "r2")
    assert (second.name, second.drop) == ("z", 0)
    theirs = X.astype(np.float64)
    lost = np.square(0.5 * np.sin(2 * theirs)).sum(axis=0)
    lost = lost / np.square(theirs - theirs.mean(axis=0)).sum(axis=0)
    assert score.drop == first.drop == pytest.approx(lost.max(), rel=1e-5)
    assert score.value == first.value == pytest.approx(1 - lost.max(), rel=1e-5)
    assert score.worst is first


@pytest.mark.parametrize("name", ["perplexity", "cosine", None])
def test_only_the_outputs_that_are_asked_for_are_fetched(name: str | None) -> None:
    reference, candidate = _model(0.0), _model(0.5)
    data = _data(reference, labels=LABELS)
    metric = METRICS[name] if name else None
    evaluation = Evaluation(reference, data, 4, metric, judged=[Judged(output="y")])
    evaluation.score(candidate)
    # What the outputs are is told from all of them, on the first samples.
    assert reference.asked == {("y", "z"), ("y",)}
    assert candidate.asked == {("y",)}
    assert evaluation.metric == (name or "r2")


def test_an_output_that_is_none() -> None:
    reference = _model(0.0)
    with pytest.raises(DataError, match="no output 'q'; its outputs are 'y', 'z'"):
        Evaluation(reference, _data(reference), 4, judged=[Judged(output="q")])


def test_labels_of_one_output_of_two() -> None:
    reference, candidate = _model(0.0), _model(0.5)
    data = _data(reference, **{"labels.z": X + 1})
    first, second = Evaluation(reference, data, 4).score(candidate).outputs
    assert (first.labelled, second.labelled) == (False, True)
    error = np.square(-X.astype(np.float64) - (X + 1)).sum(axis=0)
    spread = np.square(X - X.mean(axis=0)).sum(axis=0)
    assert second.value == pytest.approx(max(0, 1 - (error / spread).max()), abs=1e-5)


def test_of_another_evaluation_the_questions_are_taken() -> None:
    reference = _model(0.0)
    data = _data(reference, labels=LABELS)
    first = Evaluation(reference, data, 4, METRICS["top1"])
    second = Evaluation(reference, data.take([3, 1, 2]), 4, questions=first.questions)
    assert second.questions == first.questions
    assert second.metric == first.metric == "top1, r2"
    assert second.reference_score().outputs[0].reference_value == np.mean(
        X[[3, 1, 2]].argmax(axis=1) == LABELS[[3, 1, 2]]
    )


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
    assert not any(each.labelled for each in score.outputs)
    assert score.value == pytest.approx(np.mean((0.5 * np.sin(2 * X.astype(np.float64))) ** 2))
    with pytest.raises(DataError, match="perplexity needs labels, and the data hold none"):
        Evaluation(reference, _data(reference), 4, METRICS["perplexity"])


def test_nan_and_another_shape_are_an_infinite_drop() -> None:
    reference = _model(0.0)
    judged = [Judged(output="y")]
    data = _data(reference, labels=LABELS)
    evaluation = Evaluation(reference, data, 4, METRICS["top1"], judged=judged)
    wider = Watched("g (float[N, 4] x) => (float[N, 8] y) { y = Concat<axis = 1>(x, x) }")
    root = Watched("g (float[N, 4] x) => (float[N, 4] y) { y = Sqrt(x) }")
    for broken in (wider, root):
        score = evaluation.score(broken)
        assert (score.value, score.drop) == (0, np.inf)
    with pytest.raises(DataError, match="output 'y' of the original itself holds NaN"):
        Evaluation(root, _data(root, labels=LABELS), 4, METRICS["top1"])


def test_outputs_that_memory_cannot_hold_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "_ALWAYS_FREE", 0)
    monkeypatch.setattr(chunks, "available_bytes", lambda: 100)
    reference = _model(0.0)
    with pytest.raises(DataError, match=r"outputs for 23 samples .* give fewer samples"):
        Evaluation(reference, _data(reference), 4, METRICS["cosine"])
    # What is counted is not kept.
    judged = [Judged(output="y")]
    data = _data(reference, labels=LABELS)
    Evaluation(reference, data, 4, METRICS["perplexity"], judged=judged)


SEQUENCE = """g (float[N, 4] x) => (seq(float[N, 4]) y) {{
    n = Constant<value_float = {slope}>()
    more = Mul(x, n)
    y = SequenceConstruct(x, more)
  }}"""


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_sequence_of_tensors_is_judged_by_all_that_they_hold(batch_size: int) -> None:
    reference, candidate = (Watched(SEQUENCE.format(slope=slope)) for slope in (1.0, 1.5))
    data = dataset_of({"x": X[:20]}, reference.inputs)
    score = Evaluation(reference, data, batch_size).score(candidate)
    assert score.outputs[0].metric == "r2"
    assert score.drop > 0.1
    other = Watched(SEQUENCE.format(slope=1.0).replace("(x, more)", "(x, more, x)"))
    assert Evaluation(reference, data, batch_size).score(other).drop == np.inf
