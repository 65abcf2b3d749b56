"""Values on the command line that are more than numbers."""

from __future__ import annotations

import argparse
import math


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
