"""Numbers beside numbers: what float64 arithmetic says of what varies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from onnxcompress.errors import DataError
from onnxcompress.measure.metrics import METRICS
from onnxcompress.measure.numbers import (
    FRACTION_SCALE,
    deviation_tally,
    kept_share,
    lost_spread,
    mean_error,
    root_mean_error,
    spread_tally,
    with_constant_answers,
)
from onnxcompress.measure.predictions import Output
from onnxcompress.measure.tally import RowTally

N = 80


def _pair(channels: int, places: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scales, means = rng.uniform(0.5, 20, (channels, 1)), rng.uniform(-30, 30, (channels, 1))
    theirs = means + scales * rng.standard_normal((N, channels, places))
    noise = rng.uniform(0.1, 0.8, (channels, 1)) * scales
    return theirs + noise * rng.standard_normal(theirs.shape), theirs


def _sums(tally: RowTally, weights: np.ndarray | None = None) -> np.ndarray:
    once = np.ones((1, tally.samples), dtype=np.int64)
    return tally.sums(once if weights is None else weights)


def _kept(ours: Output, theirs: Output, scale: float = 0.0) -> float:
    return float(kept_share(_sums(spread_tally(ours, theirs, scale=scale)))[0])


@pytest.mark.parametrize("seed", range(4))
def test_one_channel_is_the_coefficient_of_determination(seed: int) -> None:
    ours, theirs = _pair(1, seed=seed)
    wanted = r2_score(theirs[:, 0, 0], ours[:, 0, 0])
    assert _kept(ours, theirs) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("channels", "worst"), [(3, 1), (19, 1), (20, 2), (35, 3)])
def test_of_many_channels_the_worst_tenth_counts(channels: int, worst: int) -> None:
    ours, theirs = _pair(channels, seed=channels)
    each = r2_score(theirs[..., 0], ours[..., 0], multioutput="raw_values")
    assert _kept(ours, theirs) == pytest.approx(np.sort(each)[:worst].mean(), rel=1e-12)
    lost = lost_spread(_sums(spread_tally(ours, theirs)))[0]
    assert lost == pytest.approx(np.sort(1 - each)[-worst:].mean(), rel=1e-12)


def test_places_are_one_channel_with_a_mean_of_their_own_each() -> None:
    ours, theirs = _pair(1, 9, seed=5)
    theirs = theirs + np.linspace(0, 1000, 9)
    ours = ours + np.linspace(0, 1000, 9)
    spread = np.square(theirs - theirs.mean(axis=0)).sum()
    wanted = 1 - np.square(ours - theirs).sum() / spread
    assert _kept(ours, theirs) == pytest.approx(wanted, rel=1e-9)
    assert wanted < 0.99


def test_float32_is_widened_before_anything_is_summed() -> None:
    ours, theirs = (each.astype(np.float32) for each in _pair(2, seed=9))
    each = r2_score(
        theirs[..., 0].astype(np.float64),
        ours[..., 0].astype(np.float64),
        multioutput="raw_values",
    )
    assert _kept(ours, theirs) == pytest.approx(each.min(), rel=1e-12)


def test_a_constant_answer_keeps_nothing() -> None:
    _, theirs = _pair(5, 3, seed=2)
    for constant in (theirs.mean(axis=0), theirs[0], np.zeros_like(theirs[0])):
        assert _kept(np.broadcast_to(constant, theirs.shape), theirs) == pytest.approx(0, abs=1e-12)
    tally = spread_tally(theirs, theirs)
    assert kept_share(with_constant_answers(_sums(tally)))[0] == pytest.approx(0, abs=1e-12)
    assert _kept(theirs, theirs) == 1


def test_worse_than_constant_keeps_nothing_either_but_has_lost_more() -> None:
    _, theirs = _pair(1, seed=3)
    ours = 2 * theirs.mean(axis=0) - theirs
    assert _kept(ours, theirs) == 0
    assert lost_spread(_sums(spread_tally(ours, theirs)))[0] == pytest.approx(4)


def test_a_channel_that_hardly_varies_is_measured_by_its_size() -> None:
    """1e-4 of it; float32 could not tell less."""
    rng = np.random.default_rng(4)
    theirs = 100 + 1e-9 * rng.standard_normal((N, 1, 1))
    floor = (1e-4 * 100) ** 2
    ours = theirs + 0.003
    assert _kept(ours, theirs) == pytest.approx(1 - 0.003**2 / floor, rel=1e-6)
    assert _kept(theirs + 0.1, theirs) == 0


def test_a_channel_beside_a_large_one_is_measured_by_that() -> None:
    large = np.linspace(-1e6, 1e6, N).reshape(N, 1, 1)
    theirs = np.concatenate([large, np.zeros((N, 1, 1))], axis=1)
    ours = theirs.copy()
    ours[:, 1] = 0.1
    floor = (1e-6 * math.sqrt(np.square(large).mean())) ** 2
    assert _kept(ours, theirs) == pytest.approx(1 - 0.1**2 / floor, rel=1e-9)


def test_fractions_are_measured_by_a_thousandth() -> None:
    theirs = np.full((N, 1, 1), 0.2)
    ours = theirs + 0.0001
    assert _kept(ours, theirs, FRACTION_SCALE) == pytest.approx(0.99)
    assert _kept(ours, theirs) == 0
    deviation = deviation_tally(ours, theirs, scale=FRACTION_SCALE)
    assert lost_spread(_sums(deviation))[0] == pytest.approx(0.1)


def test_nothing_at_all_is_kept_if_it_stays_nothing() -> None:
    nothing = np.zeros((N, 2, 1))
    assert _kept(nothing, nothing) == 1
    other = nothing.copy()
    other[3, 1] = 1e-30
    assert _kept(other, nothing) == 0
    assert lost_spread(_sums(spread_tally(other, nothing)))[0] == math.inf


@pytest.mark.parametrize("channels", [1, 4])
def test_errors(channels: int) -> None:
    ours, theirs = _pair(channels, seed=6)
    flat = [each[..., 0] for each in (theirs, ours)]
    absolute = mean_error(_sums(deviation_tally(ours, theirs)))[0]
    assert absolute == pytest.approx(mean_absolute_error(*flat), rel=1e-12)
    root = root_mean_error(_sums(spread_tally(ours, theirs)))[0]
    assert root == pytest.approx(math.sqrt(mean_squared_error(*flat)), rel=1e-12)


def test_drops_of_errors_beside_the_original_are_shares_of_what_varies() -> None:
    ours, theirs = _pair(1, seed=7)
    centred = theirs - theirs.mean(axis=0)
    for name, wanted in (
        ("mae", np.abs(ours - theirs).mean() / np.abs(centred).mean()),
        ("rmse", math.sqrt(np.square(ours - theirs).mean() / np.square(centred).mean())),
        ("r2", np.square(ours - theirs).mean() / np.square(centred).mean()),
    ):
        metric = METRICS[name].without_labels
        assert metric is not None
        sums = [_sums(metric.tally(each, theirs)) for each in (ours, theirs)]
        assert metric.drop(*sums)[0] == pytest.approx(wanted, rel=1e-12), name


def test_drops_of_errors_against_labels_are_their_increase() -> None:
    ours, theirs = _pair(1, seed=7)
    labels = theirs[:, 0, 0] + np.random.default_rng(1).standard_normal(N)
    for name in ("mae", "rmse"):
        metric = METRICS[name]
        sums = [_sums(metric.tally(each, labels)) for each in (ours, theirs)]
        function = mean_absolute_error if name == "mae" else mean_squared_error
        errors = [function(labels, each[:, 0, 0]) for each in (ours, theirs)]
        wanted = errors[0] / errors[1]
        wanted = wanted if name == "mae" else math.sqrt(wanted)
        assert metric.drop(*sums)[0] == pytest.approx(wanted - 1, rel=1e-12), name


def test_of_lists_all_places_have_one_mean() -> None:
    rng = np.random.default_rng(8)
    lengths = rng.integers(2, 9, 30)
    theirs = [5 + rng.standard_normal((2, length)) for length in lengths]
    ours = [each + 0.3 * rng.standard_normal(each.shape) for each in theirs]
    lost = []
    for channel in range(2):
        mean = np.concatenate([each[channel] for each in theirs]).mean()
        pairs = [(a[channel], b[channel]) for a, b in zip(ours, theirs, strict=True)]
        # Every sample counts alike, long or short.
        error = np.mean([np.square(a - b).mean() for a, b in pairs])
        lost.append(error / np.mean([np.square(b - mean).mean() for _, b in pairs]))
    assert _kept(ours, theirs) == pytest.approx(1 - max(lost), rel=1e-12)
    mean_answer = np.concatenate(theirs, axis=1).mean(axis=1, keepdims=True)
    constant = [np.broadcast_to(mean_answer, each.shape) for each in theirs]
    assert _kept(constant, theirs) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 1, 1), (N, 1, 1, 1)])
def test_labels_may_lack_axes_of_length_1(shape: tuple[int, ...]) -> None:
    ours, theirs = _pair(1, seed=10)
    wanted = _kept(ours, theirs)
    assert _kept(ours, theirs.reshape(shape)) == pytest.approx(wanted, rel=1e-12)


def test_whole_numbers_as_labels() -> None:
    ours, theirs = _pair(1, seed=11)
    labels = np.round(theirs[:, 0, 0]).astype(np.int32)
    assert _kept(ours, labels) == pytest.approx(r2_score(labels, ours[:, 0, 0]), rel=1e-12)


def test_resamples_are_weighted_sums() -> None:
    """The centre stays that of all samples, so that a resample's spread is no smaller."""
    ours, theirs = _pair(1, seed=12)
    weights = np.random.default_rng(0).multinomial(N, [1 / N] * N, 3)
    found = kept_share(_sums(spread_tally(ours, theirs), weights))
    error, spread = np.square(ours - theirs), np.square(theirs - theirs.mean(axis=0))
    for kept, weight in zip(found, weights, strict=True):
        wanted = 1 - (weight @ error[:, 0, 0]) / (weight @ spread[:, 0, 0])
        assert kept == pytest.approx(wanted, rel=1e-12)


def test_equal_infinities_are_no_error() -> None:
    ours, theirs = _pair(3, seed=13)
    wanted = _kept(ours[:, :2], theirs[:, :2])
    for each in (ours, theirs):
        each[:, 2] = -np.inf
    assert _kept(ours, theirs) == pytest.approx(wanted, rel=1e-12)
    assert _kept(theirs, theirs) == 1
    ours[4, 2] = np.inf
    assert _kept(ours, theirs) == 0


def test_what_does_not_fit() -> None:
    ours, theirs = _pair(2)
    with pytest.raises(DataError, match="80 samples cannot be compared with 79"):
        spread_tally(ours, theirs[:-1])
    with pytest.raises(DataError, match="1 numbers are wanted for one sample and the output hol"):
        spread_tally(ours, theirs[:, :1])
