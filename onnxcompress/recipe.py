"""Recipes: ordered passes with their options, to and from TOML.

runtime = "1.16"

[[pass]]
name = "quantize-static"
observer = "percentile"

[[pass.override]]
nodes = ["/head/*"]
exclude = true
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT

from onnxcompress.api_errors import own_errors
from onnxcompress.errors import RecipeError
from onnxcompress.files import write_text
from onnxcompress.pass_base import Override, Pass
from onnxcompress.registry import find_pass, options, read_options
from onnxcompress.releases import Release

_MAX_BYTES = 1 << 20  # a recipe is written by hand; more than this is not one


@dataclass(frozen=True)
class Recipe:
    """Passes in the order they run, each with its options and overrides.

    Attributes:
        passes: these.
        runtime: the onnxruntime that the result must load on; None for the installed one alone.
    """

    passes: tuple[Pass, ...]
    runtime: Release | None = None

    @classmethod
    @own_errors
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Reads a TOML file.

        Raises:
            RecipeError: the file cannot be read or is no recipe; names the file and the place.
        """
        path = Path(path)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise RecipeError(f"{path}: larger than {_MAX_BYTES} bytes; not a recipe")
            text = path.read_text(encoding="utf-8")
        except OSError as fault:
            raise RecipeError(f"{path}: cannot be read: {fault.strerror}") from fault
        except UnicodeDecodeError as fault:
            raise RecipeError(f"{path}: not a text file in UTF-8") from fault
        try:
            return cls.parse(text)
        except RecipeError as fault:
            raise RecipeError(f"{path}: {fault}") from fault

    @classmethod
    @own_errors
    def parse(cls, text: str) -> Recipe:
        """Reads TOML text.

        Raises:
            RecipeError: it is no TOML, or names a pass, option or key that does not exist.
        """
        try:
            document = tomllib.loads(text)
        except RecursionError as fault:
            raise RecipeError("not TOML of ours: it nests too deeply") from fault
        except tomllib.TOMLDecodeError as fault:
            raise RecipeError(f"not TOML: {fault}") from fault
        unknown = document.keys() - {"pass", "runtime"}
        if unknown:
            raise RecipeError(
                f"unknown key {min(unknown)!r}; a recipe holds [[pass]] tables and runtime"
            )
        tables = _tables(document.get("pass", []), "[[pass]]")
        if not tables:
            raise RecipeError("it names no pass; add a [[pass]] table")
        return cls(tuple(_read_pass(table) for table in tables), _read_runtime(document))

    def dump(self) -> str:
        """The recipe as TOML; options at their defaults are left out."""
        document = tomlkit.document()
        if self.runtime is not None:
            document.append("runtime", tomlkit.string(str(self.runtime)))
        document.append("pass", _tables_of(_write_pass(pass_) for pass_ in self.passes))
        return tomlkit.dumps(document)

    @own_errors
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the recipe as TOML, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        write_text(path, self.dump())

    @staticmethod
    def of(passes: Iterable[Pass]) -> Recipe:
        """A recipe of these passes."""
        return Recipe(tuple(passes))


def parse_pass(text: str) -> Pass:
    """A pass as the command line writes it: `name` or `name:option=value,option=value`.

    Values are TOML; a bare word is a string.

    Raises:
        RecipeError: the pass or an option does not exist, or the text has another form.
    """
    name, _, rest = text.partition(":")
    given: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise RecipeError(f"{text!r}: write options as name=value, not {item!r}")
        try:
            given[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            given[key.strip()] = value.strip()
    pass_type = find_pass(name)
    return pass_type(**read_options(pass_type, given))


def _read_runtime(document: Mapping[str, Any]) -> Release | None:
    text = document.get("runtime")
    if text is None:
        return None
    if not isinstance(text, str):
        raise RecipeError(f'runtime takes a release as text, such as "1.16", not {text!r}')
    return Release.parse(text)


def _read_pass(table: Mapping[str, Any]) -> Pass:
    given = dict(table)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError('a [[pass]] table needs a name, such as name = "quantize-dynamic"')
    overrides = _tables(given.pop("override", []), "[[pass.override]]")
    pass_type = find_pass(name)
    pass_ = pass_type(**read_options(pass_type, given))
    return dataclasses.replace(
        pass_, overrides=tuple(_read_override(pass_, each) for each in overrides)
    )


def _read_override(pass_: Pass, table: Mapping[str, Any]) -> Override:
    given = dict(table)
    where = f"override of pass {pass_.name!r}"
    scope = {key: _strings(given.pop(key, []), f"{where}: {key}") for key in ("nodes", "op_types")}
    if not any(scope.values()):
        raise RecipeError(f"{where} needs nodes = [...] or op_types = [...]")
    exclude = given.pop("exclude", False)
    if not isinstance(exclude, bool):
        raise RecipeError(f"{where}: exclude takes true or false, not {exclude!r}")
    if exclude and given:
        raise RecipeError(f"{where} excludes nodes and sets {min(given)!r}; do one of the two")
    changed = None
    if not exclude:
        changed = dataclasses.replace(pass_, **read_options(type(pass_), given))
    return Override(changed, **scope)


def _tables(value: Any, what: str) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise RecipeError(f"write passes and overrides as {what} tables")


def _strings(value: Any, what: str) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise RecipeError(f"{what} takes a list of strings, not {value!r}")


def _write_pass(pass_: Pass) -> dict[str, Any]:
    table: dict[str, Any] = {"name": pass_.name, **_changed_options(pass_, type(pass_)())}
    if pass_.overrides:
        table["override"] = _tables_of(_write_override(each, pass_) for each in pass_.overrides)
    return table


def _tables_of(rows: Iterable[Mapping[str, Any]]) -> AoT:
    """Tables in double brackets, one below the other, as people write them."""
    tables = tomlkit.aot()
    for row in rows:
        table = tomlkit.table()
        table.update(row)
        tables.append(table)
    return tables


def _write_override(override: Override, pass_: Pass) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if override.nodes:
        table["nodes"] = list(override.nodes)
    if override.op_types:
        table["op_types"] = list(override.op_types)
    if override.options is None:
        return {**table, "exclude": True}
    return {**table, **_changed_options(override.options, pass_)}


def _changed_options(pass_: Pass, base: Pass) -> dict[str, Any]:
    """The options that differ from those of `base`: an override may go back to a default."""
    changed: dict[str, Any] = {}
    for name in options(type(pass_)):
        value = getattr(pass_, name)
        if value != getattr(base, name):
            changed[name] = value.value if isinstance(value, Enum) else value
    return changed
