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

    def warn(self, text: str) -> None:
        """Says what should be known before the work is done."""
        ...


class Silent:
    """Nobody does."""

    def stage(self, title: str) -> Advance:
        """See `Progress.stage`."""
        del title
        return _ignore

    def warn(self, text: str) -> None:
        """See `Progress.warn`."""


def _ignore(done: int, total: int) -> None:
    del done, total
