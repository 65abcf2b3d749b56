"""A sensitivity report as JSON and back."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from onnxcompress.errors import DataError, OutputError
from onnxcompress.report.json import read_sensitivity, write_json
from onnxcompress.report.schema import (
    SCHEMA_VERSION,
    Damage,
    DataReport,
    PrecisionReport,
    SensitivityReport,
    UnitReport,
)
from onnxcompress.report.sensitivity import sensitivity_report

REPORT = SensitivityReport(
    schema_version=SCHEMA_VERSION,
    path="model.onnx",
    file_bytes=10_000,
    target="x86-vnni",
    data=DataReport(
        source="data.npz",
        labelled=True,
        calibration_samples=4,
        evaluation_samples=12,
        caveat=None,
    ),
    samples=12,
    metric="top1",
    clean_up="",
    clean_bytes=9_000,
    precisions=(
        PrecisionReport(name="bits=8", recipe="", noise=0.001, sqnr=30.0, bytes=4_000),
        PrecisionReport(name="bits=2", recipe="", noise=None, sqnr=None, bytes=2_000),
    ),
    units=(
        UnitReport(
            nodes=("first", "second"),
            op="MatMul",
            weight="w",
            parameters=1234,
            damage=(
                Damage(noise=0.0005, sqnr=33.01, sqnr_without=36.2, bytes=-3_000, drop=0.25),
                Damage(noise=None, sqnr=None, bytes=-4_000),
            ),
        ),
        UnitReport(
            nodes=("third",),
            op="Conv",
            weight="v",
            parameters=10,
            damage=(Damage(noise=0.0, bytes=-5), Damage(reason="too small")),
        ),
    ),
    skipped=(),
    notes=("a note",),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_json(REPORT, tmp_path / "s.json")
    assert read_sensitivity(tmp_path / "s.json") == REPORT


def test_what_is_no_such_report_says_how_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    with pytest.raises(DataError, match="cannot be read"):
        read_sensitivity(path)
    for text in ("", "{}", "[1]", '{"schema_version": "one"}'):
        path.write_text(text)
        with pytest.raises(DataError, match="not a sensitivity report"):
            read_sensitivity(path)
    write_json(replace(REPORT, schema_version=SCHEMA_VERSION + 1), path)
    with pytest.raises(DataError, match=f"version {SCHEMA_VERSION + 1}"):
        read_sensitivity(path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_json(REPORT, tmp_path / "none" / "s.json")


def test_the_table_shows_each_precision() -> None:
    shown = io.StringIO()
    Console(width=160, file=shown, highlight=False).print(sensitivity_report(REPORT))
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert "all of them 30.0 5 kB - 7 kB" in lines
    assert "first (MatMul) and 1 more 1,234 33.0 36.2 0.2500 3 kB broken - 4 kB" in lines
    assert "third (Conv) 10 - - 5 B float" in lines
    assert lines[-1] == "note: a note"
