"""Names that are free, and names that a pattern means."""

from collections.abc import Container
from fnmatch import fnmatchcase
from itertools import count


def unique(base: str, taken: Container[str]) -> str:
    """`base`, or `base` followed by the first number that makes it new."""
    if base not in taken:
        return base
    return next(name for number in count(1) if (name := f"{base}_{number}") not in taken)


def is_meant(name: str, pattern: str) -> bool:
    """Whether a shell-style pattern means a name; one that is written out means itself.

    Exporters put brackets into names ("layers[0]/MatMul"), which in a pattern are a choice.
    """
    return name == pattern or fnmatchcase(name, pattern)
