"""What an output says, and the metric that judges it unless the user names another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class OutputKind(Enum):
    """What an output says about a sample; the values are the words of the command line."""

    CHOICE = "choice"
    LABELS = "labels"
    NUMBER = "number"
    NUMBERS = "numbers"
    EMBEDDING = "embedding"
    SEQUENCE = "sequence"
    MAP = "map"
    DETECTIONS = "detections"
    STATE = "state"
    INTEGERS = "integers"
    STRINGS = "strings"
    MAPS = "maps"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class KindRow:
    """One row of the table of kinds.

    Attributes:
        title: the kind in a few words.
        metric: what judges it beside the original's outputs.
        with_labels: what judges it where labels fit it; None if labels change nothing.
    """

    title: str
    metric: str
    with_labels: str | None = None


KINDS: Final[Mapping[OutputKind, KindRow]] = MappingProxyType(
    {
        OutputKind.CHOICE: KindRow(
            title="scores of classes, of which the highest is the answer",
            metric="agreement",
            with_labels="top1",
        ),
        OutputKind.LABELS: KindRow(
            title="scores of labels, several of which may hold at once",
            metric="r2",
            with_labels="r2",
        ),
        OutputKind.NUMBER: KindRow(title="one number", metric="r2", with_labels="r2"),
        OutputKind.NUMBERS: KindRow(title="several numbers", metric="r2", with_labels="r2"),
        OutputKind.EMBEDDING: KindRow(
            title="a vector that is compared with others", metric="similarity"
        ),
        OutputKind.SEQUENCE: KindRow(
            title="scores of tokens or characters along a sequence",
            metric="agreement",
            with_labels="top1",
        ),
        OutputKind.MAP: KindRow(
            title="a value or a class at each place of a picture, or at each time",
            metric="r2",
            with_labels="r2",
        ),
        OutputKind.DETECTIONS: KindRow(
            title="boxes with scores", metric="detection-f1", with_labels="map"
        ),
        OutputKind.STATE: KindRow(title="what goes back in as an input", metric="r2"),
        OutputKind.INTEGERS: KindRow(
            title="whole numbers or truth values", metric="equal", with_labels="equal"
        ),
        OutputKind.STRINGS: KindRow(title="text", metric="equal", with_labels="equal"),
        OutputKind.MAPS: KindRow(title="a value for each key", metric="r2"),
        OutputKind.OTHER: KindRow(title="neither numbers nor text", metric="equal"),
    }
)
"""The default metric of each kind."""
