"""Reading a line and counting its errors."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.subjects.characters import (
    character_accuracy,
    character_error_rate,
    edit_distance,
    read_line,
)


def scores(*classes: int) -> np.ndarray:
    """Steps at each of which one class of four is sure."""
    return np.eye(4, dtype=np.float32)[list(classes)]


def test_runs_count_once_and_blanks_not() -> None:
    assert read_line(scores(0, 1, 1, 0, 1, 2, 2, 3, 0)) == (1, 1, 2, 3)
    assert read_line(scores(0, 0)) == ()


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2)],
)
def test_edit_distance(first: str, second: str, edits: int) -> None:
    assert edit_distance(tuple(map(ord, first)), tuple(map(ord, second))) == edits


def test_error_rate_is_edits_over_what_is_written() -> None:
    read = np.stack([scores(1, 0, 2, 2), scores(3, 3, 3, 3)])
    labels = np.array([[1, 2, -1], [1, 3, 2]])
    assert character_error_rate(read, labels) == 2 / 5
    assert character_accuracy({"scores": read}, labels) == 3 / 5
