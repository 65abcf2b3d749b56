"""Numbers as text: enough digits to see what they say, and no more."""

from __future__ import annotations

import math


def size_text(size: float) -> str:
    """Bytes with a decimal unit."""
    for unit in ("B", "kB", "MB"):
        if abs(size) < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} GB"


def drop_text(drop: float) -> str:
    """A drop, its first two digits at least, so that a small one is not taken for none."""
    if not math.isfinite(drop):
        return str(drop)
    if drop == 0 or abs(drop) >= 0.001:
        return f"{drop:.4f}"
    return f"{drop:.1e}"


def number_text(value: float, digits: int = 4) -> str:
    """A number with so many digits behind the point."""
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def interval_text(low: float, high: float, *, digits: int) -> str:
    """Two bounds."""
    return f"{number_text(low, digits)}..{number_text(high, digits)}"


def drops_text(low: float, high: float) -> str:
    """The bounds of a drop."""
    return f"{drop_text(low)}..{drop_text(high)}"
