import numpy as np
import pytest

from onnxcompress.pruning.criteria import (
    CHANNEL_CRITERIA,
    IMPORTANCES,
    Criterion,
    Facts,
    importances,
)
from tests.passes.support import normal

WEIGHTS = normal(2, 3, 5)
EXACT = WEIGHTS.astype(np.float64)
RMS = np.abs(normal(2, 5, seed=1)).astype(np.float64)
COSTS = np.abs(normal(2, 5, seed=2))


@pytest.mark.parametrize(
    ("criterion", "facts", "expected"),
    [
        (Criterion.L1, Facts(), np.abs(EXACT)),
        (Criterion.L2, Facts(), EXACT**2),
        (Criterion.THRESHOLD, Facts(), np.abs(EXACT)),
        (Criterion.WANDA, Facts(input_rms=RMS), np.abs(EXACT) * RMS[:, None]),
        (Criterion.SECOND_ORDER, Facts(costs=COSTS), EXACT**2 * COSTS[:, None]),
        (Criterion.GIVEN, Facts(given=np.float64(3)), 3 * np.abs(EXACT)),
        (Criterion.GIVEN, Facts(given=EXACT**4), EXACT**4),
    ],
)
def test_against_float64(criterion: Criterion, facts: Facts, expected: np.ndarray) -> None:
    found = importances(criterion, WEIGHTS, facts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_random_choice_goes_by_its_seed() -> None:
    draws = [importances(Criterion.RANDOM, WEIGHTS, Facts(seed=seed)) for seed in ((0,), (0, 1))]
    np.testing.assert_array_equal(draws[0], importances(Criterion.RANDOM, WEIGHTS))
    assert (draws[0] != draws[1]).all()
    assert draws[0].min() > 0 and draws[0].max() < 1


def test_zeros_matter_nothing_and_everything_else_more() -> None:
    weights = np.float32([[[0, 1e-30, -1]]])
    facts = Facts(
        input_rms=np.zeros((1, 3)),
        costs=np.zeros((1, 3)),
        slopes=np.zeros((1, 1, 3), np.float32),
        given=np.zeros((1, 1, 3)),
    )
    for criterion in IMPORTANCES:
        found = importances(criterion, weights, facts)
        assert found[0, 0, 0] == 0, criterion
        assert (found[0, 0, 1:] > 0).all(), criterion


def test_every_criterion_ranks_weights_or_channels() -> None:
    assert IMPORTANCES.keys() | CHANNEL_CRITERIA == set(Criterion)
    assert not IMPORTANCES.keys() & CHANNEL_CRITERIA
