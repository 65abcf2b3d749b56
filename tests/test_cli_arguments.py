"""Values on the command line: what they mean, and what is refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from onnxcompress.budget import Budget, BudgetKind
from onnxcompress.cli_arguments import (
    parse_confidence,
    parse_drop,
    parse_judge,
    parse_keep,
    parse_shape,
)


@pytest.mark.parametrize(
    ("text", "drop"),
    [
        ("1%", 0.01),
        ("0.01", 0.01),
        ("0", 0),
        ("0.5", 0.5),
        ("1 point", 0.01),
        ("1.5 points", 0.015),
        ("1pt", 0.01),
        ("2 pts", 0.02),
        ("100%", 1),
        ("300%", 3),
    ],
)
def test_drops(text: str, drop: float) -> None:
    budget = parse_drop(text)
    assert budget.kind is BudgetKind.DROP
    assert budget.value == pytest.approx(drop)


@pytest.mark.parametrize(
    ("parse", "text", "told"),
    [
        (parse_drop, "1", r"'1' has no unit: write 1% \(or '1 points'\), or 100%"),
        (parse_drop, "0.51", "has no unit: write 0.51%"),
        (parse_drop, "-1%", "is no drop; write 1%, 0.01 or '1 point'"),
        (parse_drop, "-0.01", "is no drop"),
        (parse_drop, "nan", "is no drop"),
        (parse_drop, "inf%", "is no drop"),
        (parse_drop, "point", "is no drop"),
        (parse_drop, "1 % point", "is no drop"),
        (parse_keep, "99", "is no share of the original's metric; write 99% or 0.99"),
        (parse_keep, "0", "is no share"),
        (parse_keep, "nan", "is no share"),
        (parse_confidence, "95", "is no confidence"),
        (parse_confidence, "50%", "is no confidence"),
        (parse_confidence, "1", "is no confidence"),
        (parse_shape, "1x3", "write NAME=1x3x640x640"),
        (parse_shape, "=1x3", "write NAME"),
        (parse_shape, "x=1x", "write NAME"),
        (parse_shape, "x=1x-3", "write NAME"),
        (parse_judge, "", "write NAME, or NAME=METRIC"),
        (parse_judge, "y=", "write NAME"),
        (parse_judge, "=top1", "write NAME"),
    ],
)
def test_what_is_refused(parse: Callable[[str], object], text: str, told: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=told):
        parse(text)


def test_the_others() -> None:
    assert parse_keep("99%") == parse_keep("0.99") == Budget(0.99, BudgetKind.KEEP)
    assert parse_confidence("95%") == parse_confidence("0.95") == 0.95
    assert parse_shape("a=b=1x3x0") == ("a=b", (1, 3, 0))
    assert parse_judge("y") == ("y", None)
    assert parse_judge("a=b=top1") == ("a=b", "top1")
    assert parse_judge("a=m:f") == ("a", "m:f")
