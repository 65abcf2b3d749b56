"""How much accuracy a result may cost: points of the metric, or a share of the original's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from onnxcompress.errors import DataError


class BudgetKind(Enum):
    """What the number of a budget means."""

    DROP = "drop"
    KEEP = "keep"


@dataclass(frozen=True)
class Budget:
    """The accuracy that a result must have.

    Attributes:
        value: for `DROP` the largest drop of the metric, 0.01 being one point of a hundred; for
            `KEEP` the least share of the original's metric.
        kind: which of them.
    """

    value: float
    kind: BudgetKind = BudgetKind.DROP

    def __post_init__(self) -> None:
        """Checks the number.

        Raises:
            DataError: it cannot be a drop, or a share.
        """
        if self.kind is BudgetKind.DROP and not self.value >= 0:
            raise DataError(f"{self.value} is no drop that a budget can allow; 0.01 is one point")
        if self.kind is BudgetKind.KEEP and not 0 < self.value <= 1:
            raise DataError(f"{self.value} is no share of the metric that can be kept; 0.99 is one")

    @classmethod
    def of(cls, max_drop: float, keep: float | None) -> Budget:
        """The budget from the two ways to give it; `keep` is the one that counts if it is given."""
        return cls(max_drop) if keep is None else cls(keep, BudgetKind.KEEP)

    def allowed(self, reference_value: float, *, drop_is_relative: bool = False) -> float:
        """The largest drop that holds the budget.

        Args:
            reference_value: the original's metric.
            drop_is_relative: the metric's drop is itself a share of the original's metric, as that
                of a perplexity is.

        Raises:
            DataError: the original's metric is not finite, so that there is no share of it.
        """
        if self.kind is BudgetKind.DROP:
            return self.value
        if drop_is_relative:
            return 1 - self.value
        if not math.isfinite(reference_value):
            raise DataError(
                f"the original's metric is {reference_value}, of which no share can be kept; say "
                "how much it may drop (--max-drop)"
            )
        return (1 - self.value) * abs(reference_value)

    def __str__(self) -> str:
        """In words."""
        if self.kind is BudgetKind.DROP:
            return f"a drop of {self.value:.4g} at most"
        return f"at least {100 * self.value:.6g} % of the original's metric"
