import math

import pytest

from onnxcompress.budget import Budget, BudgetKind
from onnxcompress.errors import DataError


def test_a_drop_is_what_it_is() -> None:
    assert Budget(0.02).allowed(0.5) == Budget(0.02).allowed(math.inf) == 0.02


@pytest.mark.parametrize(
    ("share", "reference", "allowed"), [(0.99, 0.8, 0.008), (0.9, -20, 2), (1, 5, 0)]
)
def test_keeping_a_share_depends_on_the_original(
    share: float, reference: float, allowed: float
) -> None:
    assert Budget(share, BudgetKind.KEEP).allowed(reference) == pytest.approx(allowed)


def test_drops_that_are_shares_already() -> None:
    budget = Budget(0.99, BudgetKind.KEEP)
    assert budget.allowed(20, drop_is_relative=True) == pytest.approx(0.01)
    assert budget.allowed(math.inf, drop_is_relative=True) == pytest.approx(0.01)
    with pytest.raises(DataError, match="the original's metric is inf, of which no share"):
        budget.allowed(math.inf)


@pytest.mark.parametrize("value", [-0.1, math.nan])
def test_what_is_no_drop(value: float) -> None:
    with pytest.raises(DataError, match="is no drop"):
        Budget(value)


@pytest.mark.parametrize("value", [0, 1.1, math.nan, -1])
def test_what_is_no_share(value: float) -> None:
    with pytest.raises(DataError, match="is no share"):
        Budget(value, BudgetKind.KEEP)


def test_either_way() -> None:
    assert Budget.of(0.02, None) == Budget(0.02)
    assert Budget.of(0.02, 0.99) == Budget(0.99, BudgetKind.KEEP)
    assert str(Budget(0.02)) == "a drop of 0.02 at most"
    assert str(Budget(0.99, BudgetKind.KEEP)) == "at least 99 % of the original's metric"
