"""What was found of one architecture, and what of it is a fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

LEAST_CUT: Final = 0.24
"""Of the multiply-accumulates, where 0.3 was asked for."""

_SLACK_BYTES: Final = 2_000
"""By which a file may grow: names and producers, not weights."""

_MAY_FIND_NOTHING: Final = ("inspect", "clean-up")
"""Steps that may do nothing and have nothing to say."""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A node that keeps its cost.

    Attributes:
        node: its name.
        op: its operator.
        share: of what the whole model cost.
        reason: why it keeps it.
    """

    node: str
    op: str
    share: float
    reason: str


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why nodes were left alone.

    Attributes:
        node: the first of them.
        reason: of it.
        count: how many have the same, names in it aside.
    """

    node: str
    reason: str
    count: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one step did.

    Attributes:
        step: its name.
        seconds: that it took.
        failure: what a user would be told, where the command line would end with 1.
        changed: whether a pass changed anything.
        bytes: of the file.
        original_bytes: of the file it was made from.
        sqnr: dB of the worst output against the original's; None where nothing is left of it.
        macs: the share of multiply-accumulates that is left; None where they are not counted.
        rolled_back: passes that failed and were left out, with what they said.
        reasons: why nodes were left alone, the commonest first.
        unexplained: nodes left alone without a reason.
        left: the node with the most multiply-accumulates left.
        problem: what is wrong with the outputs.
    """

    step: str
    seconds: float = 0.0
    failure: str = ""
    changed: bool = False
    bytes: int = 0
    original_bytes: int = 0
    sqnr: float | None = None
    macs: float | None = None
    rolled_back: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    unexplained: tuple[str, ...] = ()
    left: Left | None = None
    problem: str = ""

    @property
    def ratio(self) -> float:
        """Bytes beside the original's."""
        return self.bytes / self.original_bytes if self.original_bytes else 1.0

    @property
    def falls_short(self) -> bool:
        """Whether pruning cut less than it should."""
        return self.macs is not None and self.macs > 1 - LEAST_CUT

    def faults(self) -> Iterator[str]:
        """What must not be, in words."""
        if self.failure:
            yield f"exit 1: {self.failure}"
            return
        for each in self.rolled_back:
            yield f"rolled back: {each}"
        if self.bytes > self.original_bytes + _SLACK_BYTES:
            yield f"the file grows to {self.ratio:.0%}"
        if self.problem:
            yield self.problem
        if self.unexplained:
            more = f" and {len(self.unexplained) - 1} more" if len(self.unexplained) > 1 else ""
            yield f"no reason given for {self.unexplained[0]!r}{more}"
        elif not self.changed and not self.reasons and self.step not in _MAY_FIND_NOTHING:
            yield "nothing done and no reason given"
        if self.falls_short and not (self.left and self.left.reason):
            yield "too few MACs cut, and no reason given"


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One export.

    Attributes:
        name: specimen and exporter.
        family: the heading it stands under.
        failure: why it was not exported.
        fixed: whether no axis is open.
        outcomes: of each step.
    """

    name: str
    family: str
    failure: str = ""
    fixed: bool = False
    outcomes: tuple[Outcome, ...] = ()

    def of(self, step: str) -> Outcome | None:
        """The outcome of a step; None if it was not run."""
        return next((each for each in self.outcomes if each.step == step), None)


def load(path: Path) -> dict[str, Row]:
    """The rows of earlier runs, by name."""
    if not path.is_file():
        return {}
    return {row.name: row for row in msgspec.json.decode(path.read_bytes(), type=list[Row])}


def save(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows, one a line, so that changes can be read."""
    lines = ",\n".join(msgspec.json.encode(row).decode() for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
