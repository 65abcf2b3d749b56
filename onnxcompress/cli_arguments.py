"""Values on the command line that are more than numbers."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass


def parse_drop(text: str) -> float:
    """A drop as `1%` or `0.01`."""
    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no drop; write 1% or 0.01")
    return value


def parse_positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


@dataclass(frozen=True)
class FileSize:
    """A size as `25%` of another file, or in bytes."""

    value: float
    relative: bool

    def of(self, original: int) -> int:
        """The size in bytes, beside an original of so many."""
        return int(self.value * original) if self.relative else int(self.value)


_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "B": 1.0}


def parse_size(text: str) -> FileSize:
    """A size as `25%`, `900kB`, `4.5MB`, `2GB` or `70000`."""
    units = {"%": 0.01, **_UNITS}
    unit = next((each for each in units if text.endswith(each)), "")
    try:
        value = float(text.removesuffix(unit)) * units.get(unit, 1.0)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 25%, 900kB or 4.5MB")
    return FileSize(value, unit == "%")


def parse_bits(text: str) -> tuple[int, ...]:
    """Widths as `8,4,2`."""
    return tuple(parse_positive(each.strip()) for each in text.split(","))
