"""Reports as JSON."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Final

import msgspec

from onnxcompress.api_errors import own_errors
from onnxcompress.errors import DataError
from onnxcompress.files import write_text
from onnxcompress.report.groups_schema import GroupsReport
from onnxcompress.report.schema import (
    SCHEMA_VERSION,
    BenchReport,
    CompressReport,
    InspectReport,
    SensitivityReport,
)

_MOST_BYTES: Final = 256 << 20

Report = CompressReport | BenchReport | InspectReport | SensitivityReport | GroupsReport


def to_json(report: Report) -> str:
    """The report as indented JSON, with the fields of `report.schema`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


@own_errors
def write_json(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes the report whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, to_json(report))


@own_errors
def read_sensitivity(path: str | os.PathLike[str]) -> SensitivityReport:
    """Reads what `write_json` wrote of a sensitivity report.

    Raises:
        DataError: the file cannot be read, is another report, or is of another version.
    """
    path = Path(path)
    how = "`onnxcompress inspect MODEL --sensitivity --json` writes one"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: larger than {_MOST_BYTES >> 20} MiB; no sensitivity report")
        report = msgspec.json.decode(path.read_bytes(), type=SensitivityReport)
    except OSError as fault:
        raise DataError(f"{path}: cannot be read: {fault.strerror}") from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise DataError(f"{path}: not a sensitivity report ({fault}); {how}") from fault
    if report.file_bytes < 1:
        raise DataError(f"{path}: says that the model has {report.file_bytes} bytes; {how}")
    if report.schema_version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: a report of version {report.schema_version}, not {SCHEMA_VERSION}; {how}"
        )
    return report


def json_schema() -> str:
    """The JSON schema of all reports, the same under every msgspec that we allow.

    Descriptions are docstrings. Some releases of msgspec take them as they stand in the source,
    others without their indentation; here they always lose it.
    """
    schemas, parts = msgspec.json.schema_components(
        [CompressReport, BenchReport, InspectReport, SensitivityReport, GroupsReport]
    )
    for part in parts.values():
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
    document = {"anyOf": list(schemas), "$defs": parts}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
