"""Classifiers with one score for each class."""

from __future__ import annotations

import numpy as np

from tests.verdict.numbers import log_odds, r2
from tests.verdict.support import Case, Outputs, stacked


def of_table(original: Outputs, candidate: Outputs) -> float:
    """The share of the same class."""
    classes, others = (stacked(each, "output").argmax(axis=1) for each in (original, candidate))
    return float(np.mean(classes == others))


def of_decency(original: Outputs, candidate: Outputs) -> float:
    """R2 of the logarithm of the odds: of ordinary pictures all have one class."""
    return r2(
        log_odds(stacked(original, "4195")[:, 1:]), log_odds(stacked(candidate, "4195")[:, 1:])
    )


CASES = {
    "table-class": Case(kinds={"output": "choice"}, quality=of_table),
    "open-nsfw": Case(kinds={"4195": "choice"}, quality=of_decency),
}
