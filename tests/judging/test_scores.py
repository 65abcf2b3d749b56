"""Values, drops and intervals of one output, as float64 arithmetic has them."""

import math
from typing import Any

import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.judging.forms import SCORES_TOLERANCE
from onnxcompress.judging.score import OutputScore
from onnxcompress.measure.intervals import IntervalKind
from onnxcompress.measure.metric import Form, Target
from onnxcompress.measure.metrics import METRICS
from onnxcompress.measure.predictions import Output
from tests.judging.scripted import Scripted, judge

RNG = np.random.default_rng(7)
N, C = 300, 7
REFERENCE = RNG.standard_normal((N, C)).astype(np.float32)
CANDIDATE = (REFERENCE + 0.3 * RNG.standard_normal((N, C))).astype(np.float32)
# Most labels follow the reference, some do not.
LABELS = np.where(RNG.random(N) < 0.8, REFERENCE.argmax(axis=1), RNG.integers(0, C, N))


def _score(
    name: str,
    candidate: Output = CANDIDATE,
    reference: Output = REFERENCE,
    labels: np.ndarray | None = None,
) -> OutputScore:
    given = None if labels is None else {"labels": labels}
    score = judge(Scripted({"y": reference}), {"y": candidate}, given, metric=name)
    (output,) = score.outputs
    return output


def _macro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    scores = []
    for name in np.union1d(true, predicted):
        hit = np.sum((true == name) & (predicted == name))
        scores.append(2 * hit / (np.sum(true == name) + np.sum(predicted == name)))
    return float(np.mean(scores))


def _assert_absolute(score: OutputScore, value: float, reference_value: float) -> None:
    assert score.value == pytest.approx(value)
    assert score.reference_value == pytest.approx(reference_value)
    assert score.drop == pytest.approx(reference_value - value)
    low, high = score.drop_interval
    assert low <= score.drop <= high
    assert high - low < 0.3


def test_top1() -> None:
    wanted = np.mean(CANDIDATE.argmax(axis=1) == LABELS)
    _assert_absolute(
        _score("top1", labels=LABELS), wanted, np.mean(REFERENCE.argmax(axis=1) == LABELS)
    )


def test_top5() -> None:
    def share(scores: np.ndarray) -> float:
        return float(
            np.mean([y in np.argsort(-s)[:5] for s, y in zip(scores, LABELS, strict=True)])
        )

    _assert_absolute(_score("top5", labels=LABELS), share(CANDIDATE), share(REFERENCE))


def test_f1() -> None:
    values = [_macro_f1(LABELS, scores.argmax(axis=1)) for scores in (CANDIDATE, REFERENCE)]
    _assert_absolute(_score("f1", labels=LABELS), values[0], values[1])


def _perplexity(scores: np.ndarray, true: np.ndarray) -> float:
    """By the definition: one over the geometric mean of the softmax at the labels."""
    powers = np.exp(scores.astype(np.float64))
    chances = powers / powers.sum(axis=-1, keepdims=True)
    own = np.take_along_axis(chances, np.maximum(true, 0)[..., None], axis=-1)[..., 0]
    return float(np.exp(-np.mean(np.log(own[true >= 0]))))


def test_perplexity() -> None:
    scores = 3 * RNG.standard_normal((40, 6, C)).astype(np.float32)
    other = scores + RNG.standard_normal(scores.shape).astype(np.float32)
    truth = np.where(RNG.random((40, 6)) < 0.2, -100, RNG.integers(0, C, (40, 6)))
    wanted, before = _perplexity(other, truth), _perplexity(scores, truth)
    score = _score("perplexity", other, scores, truth)
    assert score.value == pytest.approx(wanted, rel=1e-12)
    assert score.reference_value == pytest.approx(before, rel=1e-12)
    assert score.drop == pytest.approx(wanted / before - 1, rel=1e-12)
    low, high = score.drop_interval
    assert low < score.drop < high


def test_perplexity_of_equal_scores_is_the_number_of_classes() -> None:
    flat = np.full((N, C), 1e4, np.float32)
    assert _score("perplexity", flat, flat, LABELS).value == pytest.approx(C, rel=1e-12)


def test_perplexity_of_large_logits_and_of_masked_classes_stays_exact() -> None:
    scores = np.array([[1e4, 0, -np.inf], [-1e4, -1e4, -np.inf]], np.float32)
    score = _score("perplexity", scores, scores, np.array([0, 1]))
    assert score.value == pytest.approx(math.sqrt(2), rel=1e-12)


def test_what_the_model_holds_impossible_is_an_infinite_drop() -> None:
    certain = np.array([[0, -np.inf], [0, 0]], np.float32)
    score = _score("perplexity", certain, np.zeros((2, 2), np.float32), np.array([1, 0]))
    assert (score.value, score.drop) == (math.inf, math.inf)
    with pytest.raises(DataError, match="of the original is infinite, so perplexity is too"):
        _score("perplexity", certain, certain, np.array([1, 0]))


def test_perplexity_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth = RNG.standard_normal((5, 9, C)), RNG.integers(0, C, (5, 9))
    whole = _score("perplexity", scores, scores, truth).value
    monkeypatch.setattr("onnxcompress.measure.scoring._BLOCK", 2 * C + 1)
    assert _score("perplexity", scores, scores, truth).value == pytest.approx(whole, rel=1e-14)


def _deviations() -> tuple[np.ndarray, np.ndarray]:
    """The candidate's and the reference's from what the reference says on average."""
    ours, theirs = CANDIDATE.astype(np.float64), REFERENCE.astype(np.float64)
    return ours - theirs.mean(axis=0), theirs - theirs.mean(axis=0)


def test_agreement() -> None:
    wanted = np.mean(CANDIDATE.argmax(axis=1) == REFERENCE.argmax(axis=1))
    _assert_absolute(_score("agreement"), wanted, 1.0)


def test_agreement_looks_at_the_scores_as_well() -> None:
    """Scores are looked at on 64 samples; they may lose more than choices may."""
    half = REFERENCE * np.float32(0.5)
    score = _score("agreement", half)
    theirs = REFERENCE[:64].astype(np.float64)
    kept = 1 - np.square(theirs / 2).sum() / np.square(theirs - theirs.mean(axis=0)).sum()
    assert score.value == 1
    assert score.scores_kept == pytest.approx(kept)
    assert score.drop == pytest.approx((1 - kept) / SCORES_TOLERANCE)
    assert _score("top1", half, labels=LABELS).scores_kept is None


def test_cosine() -> None:
    ours, theirs = _deviations()
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    _assert_absolute(_score("cosine"), np.mean(np.sum(ours * theirs, axis=1) / lengths), 1.0)


def test_cosine_with_itself_is_exactly_one() -> None:
    assert _score("cosine").reference_value == 1.0


def test_cosine_of_zero_vectors() -> None:
    ours, theirs = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    assert _score("cosine", ours, theirs).drop == 0
    theirs[0], theirs[1], ours[0] = 1, -1, 1
    assert _score("cosine", ours, theirs).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(("name", "value"), [("cosine", 0), ("sqnr", 0), ("similarity", 0)])
def test_a_constant_answer_is_worth_nothing(name: str, value: float) -> None:
    """However far the answers lie from zero, and near to each other."""
    theirs = (1000 + REFERENCE).astype(np.float32)
    mean = theirs.mean(axis=0, dtype=np.float64)
    score = _score(name, np.tile(mean, (N, 1)).astype(np.float32), theirs)
    assert score.value == pytest.approx(value, abs=0.2)
    assert score.drop == pytest.approx(1, abs=0.05)


def test_sqnr() -> None:
    ours, theirs = _deviations()
    ratio = np.sum((ours - theirs) ** 2) / np.sum(theirs**2)
    score = _score("sqnr")
    assert score.value == pytest.approx(-10 * np.log10(ratio))
    assert score.reference_value == math.inf
    assert score.drop == pytest.approx(ratio)
    assert score.drop_interval[0] < ratio < score.drop_interval[1]


def test_one_percent_of_noise_is_20_db() -> None:
    centred = (REFERENCE - REFERENCE.mean(axis=0)).astype(np.float32)
    for shift in (0, 3):
        score = _score("sqnr", centred * np.float32(1.1) + shift, centred + np.float32(shift))
        assert score.drop == pytest.approx(0.01, rel=1e-4)
        assert score.value == pytest.approx(20, rel=1e-4)


def test_mse_without_labels() -> None:
    ours, theirs = _deviations()
    score = _score("mse")
    assert score.value == pytest.approx(np.mean((ours - theirs) ** 2))
    assert score.reference_value == 0
    assert score.drop == pytest.approx(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_mse_against_labels(shape: tuple[int, ...]) -> None:
    ours, theirs = CANDIDATE[:, :1].astype(np.float64), REFERENCE[:, :1].astype(np.float64)
    labels = theirs + 0.5 * RNG.standard_normal((N, 1))
    score = _score("mse", CANDIDATE[:, :1], REFERENCE[:, :1], labels.reshape(shape))
    errors = [np.mean((values - labels) ** 2) for values in (ours, theirs)]
    assert score.value == pytest.approx(errors[0])
    assert score.reference_value == pytest.approx(errors[1])
    assert score.drop == pytest.approx(errors[0] / errors[1] - 1)


def _boxes(count: int) -> list[np.ndarray]:
    """Rows of boxes, a score and a class."""
    found = []
    for _ in range(count):
        corners = RNG.uniform(0, 50, (4, 2))
        columns = [corners, corners + RNG.uniform(5, 30, (4, 2)), RNG.uniform(0.3, 1, (4, 1))]
        found.append(np.concatenate([*columns, RNG.integers(0, 3, (4, 1))], axis=1))
    return [each.astype(np.float32) for each in found]


ANSWERS: dict[Form, Any] = {
    Form.DETECTIONS: _boxes(60),
    Form.SEQUENCES: RNG.integers(0, 9, (60, 5)),
}
"""What a metric is shown, where it is not for numbers."""


def _needed_labels(name: str) -> np.ndarray | None:
    metric = METRICS[name]
    return LABELS if metric.target is Target.LABELS and metric.without_labels is None else None


@pytest.mark.parametrize("name", list(METRICS))
def test_a_model_loses_nothing_against_itself(name: str) -> None:
    answers = ANSWERS.get(METRICS[name].form, REFERENCE)
    score = _score(name, answers, answers, _needed_labels(name))
    assert score.drop == 0
    low, high = score.drop_interval
    assert low <= 0 <= high < 0.1
    assert score.value == score.reference_value
    assert score.problem is None


@pytest.mark.parametrize("name", [each for each in METRICS if METRICS[each].form not in ANSWERS])
def test_nan_is_an_infinite_drop(name: str) -> None:
    broken = CANDIDATE.copy()
    broken[17, 3] = np.nan
    score = _score(name, broken, REFERENCE, _needed_labels(name))
    assert score.drop == math.inf
    assert score.drop_interval == (math.inf, math.inf)
    assert score.value == METRICS[name].worst
    assert score.problem == "holds NaN"


def test_nan_in_the_reference_is_told() -> None:
    broken = REFERENCE.copy()
    broken[0, 0] = np.nan
    with pytest.raises(DataError, match="output 'y' of the original itself holds NaN"):
        _score("cosine", CANDIDATE, broken)


def test_infinities_count_where_values_are_compared() -> None:
    both = REFERENCE.copy(), CANDIDATE.copy()
    for array in both:
        array[:, 0] = -np.inf  # a class that is masked out
    for name in ("sqnr", "r2", "rmse", "mae", "agreement"):
        finite = _score(name, both[1][:, 1:], both[0][:, 1:])
        score = _score(name, both[1], both[0])
        assert 0 < score.drop < 1
        if name == "r2":
            assert score.drop == pytest.approx(finite.drop)
    assert _score("top1", both[1], REFERENCE, LABELS).drop < 1
    for name in ("mse", "cosine", "sqnr", "r2", "mae", "agreement"):
        score = _score(name, both[1], REFERENCE)
        assert score.drop == math.inf
        assert score.problem is not None and "is infinite where" in score.problem


def test_another_shape_is_an_infinite_drop() -> None:
    score = _score("cosine", CANDIDATE[:, :3], REFERENCE)
    assert score.drop == math.inf
    assert score.problem == "has shape (1, 3) where the original's has (1, 7)"


def test_equal_scores_gain_nothing() -> None:
    flat = np.zeros((N, C), np.float32)
    assert _score("top1", flat, REFERENCE, LABELS).value == pytest.approx(np.mean(LABELS == 0))
    assert _score("top5", flat, REFERENCE, LABELS).value == pytest.approx(np.mean(LABELS < 5))


def test_positions_within_a_sample_and_labels_that_do_not_count() -> None:
    scores, truth = RNG.standard_normal((20, 6, C)), RNG.integers(-1, C, (20, 6))
    chosen, counted = scores.argmax(axis=-1), truth >= 0
    assert _score("top1", scores, scores, truth).value == pytest.approx(
        np.mean(chosen[counted] == truth[counted])
    )
    assert _score("f1", scores, scores, truth).value == pytest.approx(
        _macro_f1(truth[counted], chosen[counted])
    )
    other = RNG.standard_normal((20, 6, C))
    assert _score("agreement", other, scores).value == pytest.approx(
        np.mean(other.argmax(axis=-1) == chosen)
    )


def test_class_numbers_as_output() -> None:
    ours, theirs = CANDIDATE.argmax(axis=1), REFERENCE.argmax(axis=1)
    assert _score("top1", ours, theirs, LABELS).value == pytest.approx(np.mean(ours == LABELS))
    assert _score("agreement", ours, theirs).value == pytest.approx(np.mean(ours == theirs))
    with pytest.raises(DataError, match="top5 needs scores, the output is int64"):
        _score("top5", ours, theirs, LABELS)


def test_lists_of_samples() -> None:
    widths = [2, 3, 4, 3]
    theirs: list[np.ndarray] = [RNG.standard_normal((width, C)) for width in widths]
    ours: list[np.ndarray] = [array + 0.5 * RNG.standard_normal(array.shape) for array in theirs]
    noise = sum(np.sum((a - b) ** 2) for a, b in zip(ours, theirs, strict=True))
    assert _score("sqnr", ours, theirs).drop == pytest.approx(
        noise / sum(np.sum(b**2) for b in theirs)
    )
    equal = np.concatenate(
        [a.argmax(-1) == b.argmax(-1) for a, b in zip(ours, theirs, strict=True)]
    )
    assert _score("agreement", ours, theirs).value == pytest.approx(equal.mean())
    assert _score("sqnr", [*ours[:3], ours[3][:1]], theirs).drop == math.inf


@pytest.mark.parametrize(
    ("name", "labels", "told"),
    [
        ("top1", None, "top1 needs labels, and the data hold none"),
        ("top1", LABELS.astype(np.float32), r"labels are float32, class numbers \(integers\)"),
        ("top1", LABELS + 3, r"label \d is beyond the output's 7 classes"),
        ("perplexity", LABELS * 1.0, r"labels are float64, class numbers \(integers\)"),
        ("perplexity", LABELS + 3, r"label \d is beyond the output's 7 classes"),
        ("f1", np.zeros((N, 4), int), r"labels have shape \(4,\) for one sample.*asks for \(\)"),
        ("mse", np.zeros((N, 4)), r"labels have shape \(4,\) for one sample.*asks for \(7,\)"),
    ],
)
def test_labels_that_do_not_fit(name: str, labels: np.ndarray | None, told: str) -> None:
    with pytest.raises(DataError, match=told):
        _score(name, labels=labels)


def test_outputs_that_give_no_choice() -> None:
    with pytest.raises(DataError, match="top5 needs an output of more than 5 classes, this one"):
        _score("top5", CANDIDATE[:, :5], REFERENCE[:, :5], LABELS % 5)
    with pytest.raises(DataError, match="perplexity needs logits, the output is int64"):
        _score("perplexity", CANDIDATE.argmax(1), REFERENCE.argmax(1), LABELS)
    with pytest.raises(DataError, match=r"'y'.* cannot be judged by a metric of the class chosen"):
        _score("agreement", CANDIDATE[:, :1], REFERENCE[:, :1])


def _plain_bootstrap(drop: Any, draws: int) -> np.ndarray:
    rng = np.random.default_rng(99)
    drops = [drop(rng.integers(0, N, N)) for _ in range(draws)]
    return np.quantile(drops, [0.025, 0.975])


def test_the_interval_of_counted_answers_covers_a_plain_paired_bootstrap() -> None:
    score = _score("top1", labels=LABELS)
    loss = (REFERENCE.argmax(axis=1) == LABELS).astype(float) - (
        CANDIDATE.argmax(axis=1) == LABELS
    ).astype(float)
    plain = _plain_bootstrap(lambda drawn: loss[drawn].mean(), 4000)
    np.testing.assert_allclose(score.drop_interval, plain, atol=0.03)
    assert score.drop_interval[0] < plain[0] and plain[1] < score.drop_interval[1]
    assert score.interval_kind is IntervalKind.EXACT
    assert score == _score("top1", labels=LABELS)


def test_the_f1_interval_agrees_with_a_plain_paired_bootstrap() -> None:
    score = _score("f1", labels=LABELS)
    ours, theirs = CANDIDATE.argmax(axis=1), REFERENCE.argmax(axis=1)

    def drop(drawn: np.ndarray) -> float:
        true = LABELS[drawn]
        return _macro_f1(true, theirs[drawn]) - _macro_f1(true, ours[drawn])

    plain = _plain_bootstrap(drop, 1500)
    np.testing.assert_allclose(score.drop_interval, plain, atol=0.02)
    assert score.interval_kind is IntervalKind.BOOTSTRAP


@pytest.mark.parametrize(
    ("output", "labels", "name"),
    [
        (REFERENCE, LABELS, "top1"),
        (REFERENCE, LABELS[:, None], "top1"),
        (REFERENCE.reshape(50, 6, C), LABELS[:300].reshape(50, 6), "top1"),
        (REFERENCE[:, :1], RNG.random(N), "r2"),
        (REFERENCE, None, "r2"),
        (REFERENCE[:, :1], None, "r2"),
        (REFERENCE.reshape(50, 6, C), None, "r2"),
        (np.eye(C, dtype=np.float32)[LABELS], None, "agreement"),
        (LABELS, None, "equal"),
    ],
)
def test_the_default_metric(output: np.ndarray, labels: np.ndarray | None, name: str) -> None:
    given = None if labels is None else {"labels": labels}
    (score,) = judge(Scripted({"y": output}), {"y": output}, given).outputs
    assert score.metric == name
    assert score.labelled is (labels is not None)


def _nearest(vectors: np.ndarray, count: int) -> np.ndarray:
    flat = vectors - vectors.mean(axis=0)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    likeness = flat @ flat.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1)[:, :count]


def test_the_ranking_of_neighbours_is_told_beside_embeddings() -> None:
    centres = RNG.standard_normal((8, 64))
    vectors = centres[RNG.integers(0, 8, 90)] + 0.4 * RNG.standard_normal((90, 64))
    for noise in (0.0, 0.05, 0.5):
        others = vectors + noise * RNG.standard_normal(vectors.shape)
        (output,) = judge(Scripted({"embedding": vectors}), {"embedding": others}).outputs
        near, found = _nearest(vectors, 10), _nearest(others, 10)
        kept = np.mean([len({*a} & {*b}) / 10 for a, b in zip(near, found, strict=True)])
        assert output.metric == "similarity"
        assert output.beside == {"recall@10": pytest.approx(kept)}
        assert (kept == 1) == (noise == 0)


def test_neighbours_decide_nothing_and_need_enough_vectors() -> None:
    vectors = RNG.standard_normal((90, 64))
    turned = vectors[:, ::-1]
    score = judge(Scripted({"embedding": vectors}), {"embedding": turned})
    # All neighbours stay where they are, and every vector is another one.
    assert score.outputs[0].beside == {"recall@10": 1.0}
    assert score.drop > 0.9
    few = judge(Scripted({"embedding": vectors[:8]}), {"embedding": vectors[:8]})
    assert few.outputs[0].beside is None
    named = judge(Scripted({"embedding": vectors}), {"embedding": turned}, metric="recall@10")
    assert named.drop == 0
