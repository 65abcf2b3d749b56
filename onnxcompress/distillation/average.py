"""A moving average of weights: steadier than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class Average:
    """The mean of what weights were, the last steps counting most.

    The mean never looks back further than over some tenth of the steps so far, so that where
    training started is soon forgotten. Source: Polyak and Juditsky, "Acceleration of Stochastic
    Approximation by Averaging", 1992; Tarvainen and Valpola, "Mean teachers are better role
    models", 2017.

    Args:
        masters: the weights that an optimizer moves.
        decay: share of the past in the mean, of each step, at most; 0 follows the weights exactly.
            None leaves it at the tenth.

    Attributes:
        values: the mean of each, of its shape.
    """

    def __init__(self, masters: Sequence[torch.Tensor], decay: float | None):
        self._masters = masters
        self._most = 1.0 if decay is None else decay
        self.values = [each.detach().clone() for each in masters]

    def add(self, step: int) -> None:
        """Counts the weights as they are after a step, the first being 1."""
        decay = min(self._most, step / (step + 9))
        with torch.no_grad():
            for mean, master in zip(self.values, self._masters, strict=True):
                mean.lerp_(master, 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Puts the mean in the place of the weights for as long as it lasts."""
        kept = [each.detach().clone() for each in self._masters]
        try:
            self._put(self.values)
            yield
        finally:
            self._put(kept)

    def _put(self, values: Sequence[torch.Tensor]) -> None:
        with torch.no_grad():
            for master, value in zip(self._masters, values, strict=True):
                master.copy_(value)
