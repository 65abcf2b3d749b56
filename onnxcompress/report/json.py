"""Reports as JSON."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from onnxcompress.errors import OutputError
from onnxcompress.report.schema import BenchReport, CompressReport, InspectReport

Report = CompressReport | BenchReport | InspectReport


def to_json(report: Report) -> str:
    """The report as indented JSON, with the fields of `report.schema`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def write_json(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes the report whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(to_json(report), encoding="utf-8")
        draft.replace(path)
    except OSError as fault:
        draft.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {fault.strerror}") from fault


def json_schema() -> str:
    """The JSON schema of all reports."""
    schemas, parts = msgspec.json.schema_components([CompressReport, BenchReport, InspectReport])
    document = {"anyOf": list(schemas), "$defs": parts}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
