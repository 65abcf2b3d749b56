"""Passes by name: those that come with the package and those other packages add."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import msgspec

from onnxcompress.errors import RecipeError
from onnxcompress.pass_base import Pass

_NO_OPTIONS = ("overrides", "release")

ENTRY_POINT_GROUP = "onnxcompress.passes"
"""Where another package names its passes: `name = "module:Class"`."""


@dataclass(frozen=True)
class Option:
    """One option of a pass: a field of its dataclass."""

    name: str
    type: Any
    default: Any

    @property
    def kind(self) -> str:
        """The type as a user would write it: `int`, or the choices of an enumeration."""
        return _kind(self.type)

    @property
    def shown_default(self) -> str:
        """The default as a user would write it."""
        return str(self.default.value if isinstance(self.default, Enum) else self.default)


@cache
def pass_types() -> Mapping[str, type[Pass]]:
    """Every known pass by name, in the order of the pass table, then other packages' by name."""
    from onnxcompress.passes import PASSES

    known: dict[str, type[Pass]] = {each.name: each for each in PASSES}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        known.setdefault(entry.name, entry.load())
    return known


def options(pass_type: type[Pass]) -> Mapping[str, Option]:
    """The options of a pass by name, with types and defaults."""
    hints = typing.get_type_hints(pass_type)
    return {
        field.name: Option(field.name, hints[field.name], field.default)
        for field in dataclasses.fields(pass_type)
        if field.name not in _NO_OPTIONS
    }


def find_pass(name: str) -> type[Pass]:
    """The pass called `name`.

    Raises:
        RecipeError: there is none; suggests the nearest names.
    """
    if name in pass_types():
        return pass_types()[name]
    raise RecipeError(f"there is no pass {name!r}; {_nearest(name, pass_types())}")


def read_options(pass_type: type[Pass], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checks option values, as TOML gives them, against the pass's fields.

    Raises:
        RecipeError: an option does not exist or its value is of the wrong type.
    """
    known = options(pass_type)
    checked: dict[str, Any] = {}
    for name, value in given.items():
        where = f"pass {pass_type.name!r}"
        if name not in known:
            raise RecipeError(f"{where} has no option {name!r}; {_nearest(name, known)}")
        try:
            checked[name] = msgspec.convert(value, known[name].type)
        except msgspec.ValidationError as fault:
            kind = known[name].kind
            raise RecipeError(
                f"{where}: option {name!r} takes {kind}, not {value!r} ({fault})"
            ) from fault
    return checked


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " | ".join(map(_kind, typing.get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(str(member.value) for member in kind)
    return str(getattr(kind, "__name__", kind))


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, 3)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "there are " + ", ".join(known) if known else "it takes none"
