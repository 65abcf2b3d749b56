"""How long work tells that it goes on, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Advance = Callable[[int, int], None]
"""Called with how much is done and how much there is."""


class Progress(Protocol):
    """Somebody who wants to know."""

    def stage(self, title: str) -> Advance:
        """Begins a stage of the work; the one before it is over."""
        ...


class Silent:
    """Nobody does."""

    def stage(self, title: str) -> Advance:
        """See `Progress.stage`."""
        del title
        return _ignore


def _ignore(done: int, total: int) -> None:
    del done, total
