import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score, roc_curve

from onnxcompress.errors import DataError
from onnxcompress.measure.rank_correlation import (
    RankCorrelationTally,
    spearman_drop,
    spearman_tally,
    spearman_value,
)
from onnxcompress.measure.ranking import (
    RankingTally,
    auc_drop,
    auc_tally,
    auc_value,
    decisions,
    eer_drop,
    eer_tally,
    eer_value,
)
from onnxcompress.measure.tally import Tally
from onnxcompress.measure.verification import (
    VerificationTally,
    verification_tally,
)
from onnxcompress.measure.weighing import as_floats, by_sample, running_sums, sums_between

RNG = np.random.default_rng(5)


def _weights(samples: int, resamples: int = 7) -> np.ndarray:
    return np.stack(
        [
            np.ones(samples, dtype=np.int64),
            *(
                np.bincount(d, minlength=samples)
                for d in RNG.integers(0, samples, (resamples, samples))
            ),
        ]
    )


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def _scores(samples: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.integers(0, 2, samples)
    scores = RNG.standard_normal(samples) + labels
    return (np.round(2 * scores) / 2 if ties else scores), labels


def _equal_error(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """Where a line through the curve's points meets the diagonal."""
    false, true, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    # Along the curve, since it has vertical pieces.
    at = np.arange(len(false))
    place = brentq(lambda x: np.interp(x, at, false) - 1 + np.interp(x, at, true), 0, at[-1])
    return float(np.interp(place, at, false))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("samples", [9, 300])
def test_binary_auc_and_eer(samples: int, ties: bool) -> None:
    scores, labels = _scores(samples, ties)
    weights = _weights(samples)
    areas = auc_value(auc_tally(scores, labels).sums(weights))
    rates = eer_value(eer_tally(scores, labels).sums(weights))
    for area, rate, weight in zip(areas, rates, weights, strict=True):
        assert area == pytest.approx(roc_auc_score(labels, scores, sample_weight=weight), abs=1e-12)
        assert rate == pytest.approx(_equal_error(labels, scores, weight), abs=1e-9)


def test_forms_of_binary_scores() -> None:
    scores, labels = _scores(100, ties=True)
    chances = 1 / (1 + np.exp(-scores))
    want = _once(auc_tally(scores, labels))
    both = np.stack([1 - chances, chances], axis=1)
    logits = np.stack([3 - scores, np.full(100, 3.0)], axis=1)
    for output in (scores[:, None], chances[:, None], both, logits, list(both), list(logits)):
        for target in (labels, labels[:, None], labels.astype(bool)):
            assert _once(auc_tally(output, target)) == want


def test_odds_keep_apart_what_a_softmax_rounds_to_one() -> None:
    logits = np.stack([np.zeros(4), np.array([800.0, 900.0, -800.0, -900.0])], axis=1)
    assert _once(auc_tally(logits, np.array([0, 1, 1, 0]))) == pytest.approx(0.75)


@pytest.mark.parametrize("classes", [3, 10])
def test_auc_of_several_classes(classes: int) -> None:
    logits = RNG.standard_normal((200, classes)) * 2
    labels = np.where(RNG.random(200) < 0.4, logits.argmax(axis=1), RNG.integers(0, classes, 200))
    powers = np.exp(logits)
    chances = powers / powers.sum(axis=1, keepdims=True)
    weights = _weights(200)
    want = [
        np.mean(
            [roc_auc_score(labels == c, chances[:, c], sample_weight=w) for c in range(classes)]
        )
        for w in weights
    ]
    for output in (logits, logits.astype(np.float64) + 5, chances):
        values = auc_value(auc_tally(output, labels).sums(weights))
        np.testing.assert_allclose(values, want, atol=1e-12)


def test_auc_leaves_out_classes_that_are_missing() -> None:
    scores = RNG.random((50, 4))
    labels = RNG.integers(0, 3, 50)
    want = np.mean([roc_auc_score(labels == c, scores[:, c]) for c in range(3)])
    assert _once(auc_tally(scores, labels)) == pytest.approx(want)


def test_auc_of_several_labels() -> None:
    scores = RNG.standard_normal((80, 5))
    labels = RNG.integers(0, 2, (80, 5))
    labels[::7, 2] = -1
    counted = labels >= 0
    want = np.mean([roc_auc_score(labels[c, i], scores[c, i]) for i, c in enumerate(counted.T)])
    assert _once(auc_tally(scores, labels)) == pytest.approx(want)


def test_auc_of_positions_weighs_them_as_their_sample() -> None:
    scores = RNG.standard_normal((30, 6, 2))
    labels = RNG.integers(-1, 2, (30, 6))
    weights = _weights(30)
    values = auc_value(auc_tally(scores, labels).sums(weights))
    ragged = auc_value(auc_tally(list(scores), list(labels)).sums(weights))
    chosen = labels >= 0
    for value, other, weight in zip(values, ragged, weights, strict=True):
        each = np.repeat(weight[:, None], 6, axis=1)[chosen]
        odds = (scores[..., 1] - scores[..., 0])[chosen]
        want = roc_auc_score(labels[chosen], odds, sample_weight=each)
        assert value == other == pytest.approx(want, abs=1e-12)


def test_joined_ranking_is_the_whole() -> None:
    scores, labels = RNG.random((60, 3)), RNG.integers(0, 3, 60)
    weights = _weights(60)
    parts = [auc_tally(scores[i : i + 20], labels[i : i + 20]) for i in (0, 20, 40)]
    whole = auc_tally(scores, labels).sums(weights)
    np.testing.assert_array_equal(RankingTally.joined(parts).sums(weights), whole)


def test_ranking_when_a_class_is_missing() -> None:
    with pytest.raises(DataError, match="all of one class"):
        _once(auc_tally(np.arange(4.0), np.ones(4, dtype=int)))
    tally = auc_tally(np.arange(3.0), np.array([0, 0, 1]))
    np.testing.assert_array_equal(tally.sums(np.array([[1, 1, 1], [2, 1, 0]])), [[1], [0.5]])
    tally = eer_tally(np.arange(3.0), np.array([0, 0, 1]))
    np.testing.assert_array_equal(tally.sums(np.array([[1, 1, 1], [2, 1, 0]])), [[0], [0.5]])


def test_extreme_rankings() -> None:
    labels = np.array([0, 0, 1, 1])
    assert _once(auc_tally(np.zeros(4), labels)) == 0.5
    assert _once(eer_tally(np.zeros(4), labels)) == 0.5
    assert _once(auc_tally(-np.arange(4.0), labels)) == 0
    assert _once(eer_tally(-np.arange(4.0), labels)) == 1


def test_what_labels_do_not_fit() -> None:
    with pytest.raises(DataError, match="label 2 where 0 and 1 are needed"):
        auc_tally(np.zeros(3), np.array([0, 1, 2]))
    with pytest.raises(DataError, match="label 3 is beyond the output's 3 classes"):
        auc_tally(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(DataError, match="one class number is needed for each row"):
        auc_tally(np.zeros((2, 3)), np.zeros((2, 4), dtype=int))
    with pytest.raises(DataError, match="labels are float64, whole numbers are needed"):
        auc_tally(np.zeros(2), np.zeros(2))
    with pytest.raises(DataError, match="outputs for 2 samples and 3 to compare with"):
        auc_tally(np.zeros(2), np.zeros(3, dtype=int))
    with pytest.raises(DataError, match="number of classes differs"):
        auc_tally([np.zeros(3), np.zeros(4)], np.array([0, 1]))


def test_the_originals_own_decisions() -> None:
    scores = RNG.standard_normal((40, 2))
    np.testing.assert_array_equal(decisions(scores), scores.argmax(axis=1))
    np.testing.assert_array_equal(decisions(list(scores)), scores.argmax(axis=1))
    np.testing.assert_array_equal(decisions(np.array([0.2, 0.5, 0.9])), [0, 1, 1])
    np.testing.assert_array_equal(decisions(np.array([[-0.2], [0.1], [3]])), [[0], [1], [1]])
    assert _once(auc_tally(scores, decisions(scores))) == 1
    assert _once(eer_tally(scores, decisions(scores))) == 0


def test_drops_of_values() -> None:
    worse, better = np.array([[0.7]]), np.array([[0.9]])
    assert auc_drop(worse, better) == pytest.approx(0.2)
    assert spearman_drop(worse, better) == pytest.approx(0.2)
    assert eer_drop(better, worse) == pytest.approx(0.2)


@pytest.mark.parametrize("ties", [False, True])
def test_spearman(ties: bool) -> None:
    truth = RNG.standard_normal((90, 3))
    output = truth + RNG.standard_normal((90, 3))
    if ties:
        truth, output = np.round(truth), np.round(2 * output)
    weights = _weights(90)
    values = spearman_value(spearman_tally(output, truth).sums(weights))
    for value, weight in zip(values, weights, strict=True):
        rows = np.repeat(np.arange(90), weight)
        pairs = zip(output[rows].T, truth[rows].T, strict=True)
        want = np.mean([spearmanr(ours, theirs).statistic for ours, theirs in pairs])
        assert value == pytest.approx(want, abs=1e-12)


def test_spearman_of_constants() -> None:
    truth = np.stack([np.arange(5.0), np.full(5, 2.0)], axis=1)
    assert _once(spearman_tally(truth, truth)) == 1
    assert _once(spearman_tally(np.zeros((5, 2)), truth)) == 0
    np.testing.assert_array_equal(spearman_tally(truth, truth).sums(np.array([[5, 0, 0, 0, 0]])), 0)
    with pytest.raises(DataError, match="the same for all samples"):
        _once(spearman_tally(truth, np.ones((5, 2))))
    with pytest.raises(DataError, match="1 outputs and 2 labels"):
        spearman_tally(np.zeros(5), truth)
    with pytest.raises(DataError, match="differ in shape from sample to sample"):
        spearman_tally([np.zeros(2), np.zeros(3)], [np.zeros(2), np.zeros(3)])


def test_joined_spearman_is_the_whole() -> None:
    output, truth = RNG.random((2, 40, 2))
    parts = [spearman_tally(output[i : i + 20], truth[i : i + 20]) for i in (0, 20)]
    whole = _once(spearman_tally(output, truth))
    np.testing.assert_array_equal(_once(RankCorrelationTally.joined(parts)), whole)


@pytest.mark.parametrize(
    ("samples", "names", "noise"), [(60, 3, 2.0), (150, 40, 0.8), (12, 2, 0.1)]
)
def test_verification(samples: int, names: int, noise: float) -> None:
    labels = RNG.integers(-1, names, samples)
    vectors = RNG.standard_normal((names + 1, 8))[labels] + noise * RNG.standard_normal(
        (samples, 8)
    )
    vectors[3] = 0
    weights = _weights(samples, resamples=20)
    parts = [verification_tally(vectors[s], labels[s]) for s in (slice(0, 5), slice(5, None))]
    rates = eer_value(VerificationTally.joined(parts).sums(weights))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1)
    first, second = np.triu_indices(samples, 1)
    counted = (labels[first] >= 0) & (labels[second] >= 0)
    first, second = first[counted], second[counted]
    cosines = np.einsum("ij,ij->i", units[first], units[second])
    for rate, weight in zip(rates, weights, strict=True):
        pairs = weight[first] * weight[second]
        if len(np.unique((labels[first] == labels[second])[pairs > 0])) < 2:
            assert rate == 0.5
            continue
        want = _equal_error(labels[first] == labels[second], cosines, pairs)
        assert rate == pytest.approx(want, abs=1e-7)


def test_verification_that_proves_nothing() -> None:
    vectors = RNG.standard_normal((4, 3))
    for labels in (np.arange(4), np.zeros(4, dtype=int), np.array([0, -1, -1, -1])):
        with pytest.raises(DataError, match="of the same label and of different ones"):
            _once(verification_tally(vectors, labels))
    tally = verification_tally(vectors, np.array([0, 0, 1, 1]))
    assert tally.sums(np.array([[4, 0, 0, 0]])) == 0.5
    assert _once(verification_tally(np.zeros((4, 3)), np.array([0, 0, 1, 1]))) == 0.5
    with pytest.raises(DataError, match="one number is needed for each"):
        verification_tally(vectors, np.zeros((4, 2), dtype=int))


@pytest.mark.parametrize("count", [0, 1, 2, 10, 99])
def test_sums_of_weights(count: int) -> None:
    rows = RNG.integers(0, 5, (count, 4))
    np.testing.assert_array_equal(running_sums(rows.astype(np.float32)), np.cumsum(rows, axis=0))
    if count:
        begins = np.arange(0, count, 3)
        np.testing.assert_array_equal(
            sums_between(rows.astype(np.float64), begins), np.add.reduceat(rows, begins, axis=0)
        )


def test_weights_are_in_floats_that_are_exact() -> None:
    weights = np.array([[1, 2, 0]])
    np.testing.assert_array_equal(by_sample(weights, 3), weights.T)
    assert by_sample(weights, 3).dtype == np.float32
    assert by_sample(weights, 1 << 22).dtype == np.float64
    assert as_floats(np.array([(1 << 24) + 1]), 1 << 25)[0] == (1 << 24) + 1
