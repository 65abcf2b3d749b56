import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.measure.regions import (
    RegionTally,
    mean_intersection,
    region_drop,
    region_tally,
)
from onnxcompress.measure.tally import Tally

RNG = np.random.default_rng(10)


def _once(tally: Tally) -> np.ndarray:
    return tally.sums(np.ones((1, tally.samples), dtype=np.int64))


def _mean_iou(predicted: np.ndarray, true: np.ndarray, classes: list[int]) -> float:
    counted = true >= 0
    shares = []
    for name in classes:
        ours, theirs = (predicted == name) & counted, true == name
        if theirs.any():
            shares.append((ours & theirs).sum() / (ours | theirs).sum())
    return float(np.mean(shares))


def test_mean_intersection_over_union() -> None:
    true = RNG.integers(-1, 5, (25, 8, 9))
    predicted = np.where(RNG.random(true.shape) < 0.7, true, RNG.integers(-1, 8, true.shape))
    true[0, :3] = 7
    weights = np.stack([np.ones(25, dtype=np.int64), *RNG.integers(0, 3, (4, 25))])
    values = mean_intersection(region_tally(predicted, true).sums(weights))
    ragged = region_tally(list(predicted.astype(np.int32)), list(true[:, None]))
    np.testing.assert_array_equal(mean_intersection(ragged.sums(weights)), values)
    for value, weight in zip(values, weights, strict=True):
        drawn = np.repeat(np.arange(25), weight)
        want = _mean_iou(predicted[drawn], true[drawn], list(range(8)))
        assert value == pytest.approx(want, abs=1e-12)
    own = region_tally(true, true).sums(weights)
    np.testing.assert_array_equal(mean_intersection(own), 1)
    drops = region_drop(region_tally(predicted, true).sums(weights), own)
    np.testing.assert_allclose(drops, 1 - values)


def test_classes_that_are_hardly_there_do_not_count() -> None:
    true = np.zeros((10, 1000), dtype=int)
    true[0, :9] = 1
    predicted = np.zeros_like(true)
    assert mean_intersection(_once(region_tally(predicted, true))) == pytest.approx(9991 / 10000)
    true[0, :10] = 1
    want = (9990 / 10000 + 0) / 2
    assert mean_intersection(_once(region_tally(predicted, true))) == pytest.approx(want)


def test_joined_regions_and_large_class_numbers() -> None:
    true = RNG.choice([2, 70_000, 1 << 40], (12, 30))
    predicted = np.where(RNG.random(true.shape) < 0.5, true, 3)
    weights = np.stack([np.ones(12, dtype=np.int64), RNG.integers(0, 3, 12)])
    parts = [region_tally(predicted[s], true[s]) for s in (slice(0, 1), slice(1, 12))]
    values = mean_intersection(RegionTally.joined(parts).sums(weights))
    whole = mean_intersection(region_tally(predicted, true).sums(weights))
    np.testing.assert_array_equal(values, whole)
    assert values[0] == pytest.approx(_mean_iou(predicted, true, [2, 70_000, 1 << 40]))


def test_regions_that_prove_nothing() -> None:
    with pytest.raises(DataError, match="no position has a label"):
        _once(region_tally(np.zeros((2, 3), dtype=int), np.full((2, 3), -1)))
    with pytest.raises(DataError, match="scale the labels to the output"):
        region_tally(np.zeros((2, 3), dtype=int), np.zeros((2, 4), dtype=int))
    with pytest.raises(DataError, match="the outputs are float64"):
        region_tally(np.zeros((2, 3)), np.zeros((2, 3), dtype=int))
