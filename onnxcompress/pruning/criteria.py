"""How much each weight matters: one function of its values and of what is known about it.

Weights are seen as [groups, outputs, features]: y = W x for each group. A new criterion is a name,
perhaps a field of `Facts`, and a line in `IMPORTANCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np


class Criterion(Enum):
    """What importance is judged by, by the names recipes use."""

    L1 = "l1"
    L2 = "l2"
    RANDOM = "random"
    THRESHOLD = "threshold"
    GIVEN = "given"
    WANDA = "wanda"
    GEOMETRIC_MEDIAN = "geometric-median"
    BATCHNORM = "batchnorm"
    SECOND_ORDER = "second-order"
    GRADIENT = "gradient"
    TAYLOR = "taylor"
    FISHER = "fisher"
    ACTIVATION_MEAN = "activation-mean"
    NONZERO_FRACTION = "nonzero-fraction"


CHANNEL_CRITERIA = frozenset(
    {
        Criterion.GEOMETRIC_MEDIAN,
        Criterion.BATCHNORM,
        Criterion.ACTIVATION_MEAN,
        Criterion.NONZERO_FRACTION,
    }
)
"""These rank whole channels: no single weight has an importance by them."""


LEAST = np.finfo(np.float32).smallest_subnormal
"""The importance of a weight that is next to nothing, but not zero."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a weight besides its values; what the criterion does not need is None.

    Attributes:
        input_rms: float [groups, features]: root mean square of each input, for wanda.
        costs: float [groups, features]: what a squared change of 1 costs once all other weights
            made up for it, 1 / [H^-1]_ff, for second-order; see `Compensation.costs`.
        slopes: float32 [groups, outputs, features]: for gradient the mean magnitude of gradients g,
            for taylor that of g w, for fisher the mean square of g w.
        given: float, not negative: one number for all or [groups, outputs, features], for given.
        seed: whole numbers, not negative, of the choice by random.
    """

    input_rms: np.ndarray | None = None
    costs: np.ndarray | None = None
    slopes: np.ndarray | None = None
    given: np.ndarray | None = None
    seed: tuple[int, ...] = (0,)


def importances(
    criterion: Criterion, weights: np.ndarray, facts: Facts | None = None
) -> np.ndarray:
    """How much each weight matters.

    Weights that are zero matter nothing, and any other one more than they: what a mask took is
    taken first when weights are ranked again.

    Args:
        criterion: not one of `CHANNEL_CRITERIA`.
        weights: finite float [groups, outputs, features].
        facts: what the criterion needs.

    Returns:
        float32, not negative, shape of `weights`.
    """
    found = IMPORTANCES[criterion](weights.astype(np.float32), facts or Facts())
    ranked: np.ndarray = np.maximum(found, LEAST, dtype=np.float32) * (weights != 0)
    return ranked


def _l1(weights: np.ndarray, facts: Facts) -> np.ndarray:
    del facts
    return np.asarray(np.abs(weights))


def _l2(weights: np.ndarray, facts: Facts) -> np.ndarray:
    del facts
    return np.asarray(np.square(weights))


def _random(weights: np.ndarray, facts: Facts) -> np.ndarray:
    return np.random.default_rng(facts.seed).random(weights.shape, np.float32)


def _given(weights: np.ndarray, facts: Facts) -> np.ndarray:
    """As given; one number for all is a factor of their magnitudes."""
    assert facts.given is not None
    if facts.given.size == 1:
        return np.asarray(facts.given.reshape(()).astype(np.float32) * np.abs(weights))
    return facts.given.astype(np.float32)


def _wanda(weights: np.ndarray, facts: Facts) -> np.ndarray:
    """Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2023.

    The norm of an input is divided by the root of the number of rows seen, so that nodes that see
    more of them (early convolutions) do not count for more when nodes are compared.
    """
    assert facts.input_rms is not None
    return np.asarray(np.abs(weights) * facts.input_rms[:, None, :].astype(np.float32))


def _second_order(weights: np.ndarray, facts: Facts) -> np.ndarray:
    """Hassibi and Stork, "Optimal Brain Surgeon", 1993: w^2 / [H^-1]_ff, H the inputs' moments."""
    assert facts.costs is not None
    return np.asarray(np.square(weights) * facts.costs[:, None, :].astype(np.float32))


def _by_slopes(weights: np.ndarray, facts: Facts) -> np.ndarray:
    """LeCun et al., "Optimal Brain Damage", 1989, and Molchanov et al. 2017 (arXiv 1611.06440)."""
    del weights
    assert facts.slopes is not None
    return facts.slopes


IMPORTANCES: Mapping[Criterion, Callable[[np.ndarray, Facts], np.ndarray]] = {
    Criterion.L1: _l1,
    Criterion.L2: _l2,
    Criterion.RANDOM: _random,
    Criterion.THRESHOLD: _l1,
    Criterion.GIVEN: _given,
    Criterion.WANDA: _wanda,
    Criterion.SECOND_ORDER: _second_order,
    Criterion.GRADIENT: _by_slopes,
    Criterion.TAYLOR: _by_slopes,
    Criterion.FISHER: _by_slopes,
}
"""Importance of each weight: float32 [groups, outputs, features] and facts to the same shape."""
