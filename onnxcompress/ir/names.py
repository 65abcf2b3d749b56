"""Names that are free."""

from collections.abc import Container
from itertools import count


def unique(base: str, taken: Container[str]) -> str:
    """`base`, or `base` followed by the first number that makes it new."""
    if base not in taken:
        return base
    return next(name for number in count(1) if (name := f"{base}_{number}") not in taken)
