"""Values on the command line that are more than numbers."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass

from onnxcompress.budget import Budget, BudgetKind
from onnxcompress.data.splitting import Shares
from onnxcompress.errors import DataError, RecipeError
from onnxcompress.releases import Release

_POINTS = re.compile(r"\s*(?P<number>\S+?)\s*(points?|pts?)\s*")
_LARGEST_BARE_DROP = 0.5


def parse_drop(text: str) -> Budget:
    """A drop as `1%`, `0.01` or `1 point`; 1 alone could be any of them, so it needs a unit."""
    points = _POINTS.fullmatch(text)
    value = _share(f"{points['number']}%" if points else text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no drop; write 1%, 0.01 or '1 point'")
    if value > _LARGEST_BARE_DROP and not points and "%" not in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} has no unit: write {value:g}% (or '{value:g} points'), or {100 * value:g}%"
        )
    return Budget(value)


def parse_keep(text: str) -> Budget:
    """A share of the original's metric as `99%` or `0.99`."""
    value = _share(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no share of the original's metric; write 99% or 0.99"
        )
    return Budget(value, BudgetKind.KEEP)


def parse_confidence(text: str) -> float:
    """A confidence as `95%` or `0.95`."""
    value = _share(text)
    if not 0.5 < value < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no confidence above 50% and below 100%; write 95% or 0.95"
        )
    return value


def parse_split(text: str) -> Shares:
    """Shares as `50/20/30` or `40/60`."""
    try:
        return Shares.parse(text)
    except DataError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """The shape of an input as `NAME=1x3x640x640`; the name may hold `=` itself."""
    name, _, shape = text.rpartition("=")
    sizes = shape.split("x")
    if not name or not all(each.isascii() and each.isdecimal() for each in sizes):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shape of an input; write NAME=1x3x640x640"
        )
    return name, tuple(map(int, sizes))


def parse_judge(text: str) -> tuple[str, str | None]:
    """An output as `NAME`, or `NAME=CHOICE` with how it is judged.

    What stands behind the last `=` is the choice, so a name that holds `=` itself needs one.
    """
    name, equals, choice = text.rpartition("=")
    if not equals:
        name, choice = text, ""
    if not name or (equals and not choice):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no output to judge; write NAME, or NAME=METRIC"
        )
    return name, choice or None


def _share(text: str) -> float:
    """A number, or one of a hundred behind which `%` stands; NaN if it is neither."""
    number, percent = text.strip(), False
    if number.endswith("%"):
        number, percent = number[:-1], True
    try:
        return float(number) / (100 if percent else 1)
    except ValueError:
        return math.nan


def parse_release(text: str) -> Release:
    """A release of onnxruntime as `1.16`."""
    try:
        return Release.parse(text)
    except RecipeError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from fault


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
