"""As many digits as say something."""

from __future__ import annotations

import math

import pytest

from onnxcompress.report.figures import drop_text, drops_text, interval_text, number_text, size_text


@pytest.mark.parametrize(
    ("drop", "text"),
    [
        (0, "0.0000"),
        (0.01234, "0.0123"),
        (-0.25, "-0.2500"),
        (0.001, "0.0010"),
        (0.00099, "9.9e-04"),
        (4.23e-6, "4.2e-06"),
        (-1.07e-9, "-1.1e-09"),
        (12.5, "12.5000"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
)
def test_a_small_drop_is_not_taken_for_none(drop: float, text: str) -> None:
    assert drop_text(drop) == text
    if math.isfinite(drop):
        assert float(text) == pytest.approx(drop, rel=0.05, abs=1e-12)


def test_bounds() -> None:
    assert drops_text(-2e-5, 0.02) == "-2.0e-05..0.0200"
    assert drops_text(0, math.inf) == "0.0000..inf"
    assert interval_text(1.234, 2.345, digits=2) == "1.23..2.35"
    assert number_text(0.98765) == "0.9877"
    assert number_text(-math.inf) == "-inf"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (999, "999 B"),
        (1000, "1 kB"),
        (123_456, "123 kB"),
        (4_560_000, "4.56 MB"),
        (3e12, "3e+03 GB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text
