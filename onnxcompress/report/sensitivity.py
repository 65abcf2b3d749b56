"""Sensitivity and what was made of it, as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxcompress.report.figures import size_text
from onnxcompress.report.schema import Damage, SensitivityReport, UnitReport
from onnxcompress.report.terminal import data_line

if TYPE_CHECKING:
    from onnxcompress.sensitivity.assignment import Assignment

_MOST_REASONS = 6


def sensitivity_report(report: SensitivityReport) -> RenderableType:
    """Units in order of their sensitivity, a group of columns for each precision."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("node", overflow="fold")
    table.add_column("parameters", justify="right")
    titles = ["alone", "without", *([f"drop of {report.metric}"] if report.metric else []), "saves"]
    for precision in report.precisions:
        for title in titles:
            table.add_column(f"{precision.name}\n{title}", justify="right")
    whole = [Text("all of them", style="bold"), Text("")]
    for precision in report.precisions:
        saved = Text(size_text(report.clean_bytes - precision.bytes))
        whole += [Text(_decibels(precision.sqnr)), *[Text("") for _ in titles[2:]], saved]
    table.add_row(*whole)
    for unit in report.units:
        cells = [Text(_name(unit)), Text(f"{unit.parameters:,}")]
        for damage in unit.damage:
            cells += [Text(cell) for cell in _cells(damage, with_drop=report.metric is not None)]
        table.add_row(*cells)
    parts: list[RenderableType] = [
        data_line(report.data),
        Text(
            f"SQNR of the worst output in dB on {report.samples} of them: with the node alone "
            "quantized, and with all but the node. The most sensitive come first."
        ),
        "",
        table,
    ]
    parts += _left_alone(report)
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    return Group(*parts)


def assignment_report(
    report: SensitivityReport, assignment: Assignment, written: Path
) -> RenderableType:
    """How many nodes and parameters get each precision, what is expected of it, and the file."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("precision")
    for title in ("nodes", "parameters"):
        table.add_column(title, justify="right")
    counts = Counter(assignment.precisions.values())
    parameters: Counter[str] = Counter()
    for unit in report.units:
        parameters[assignment.precisions[unit.nodes[0]]] += unit.parameters
    for name, count in counts.most_common():
        table.add_row(name, str(count), f"{parameters[name]:,}")
    share = assignment.bytes / report.file_bytes
    return Group(
        table,
        "",
        Text(
            f"expected: {size_text(assignment.bytes)} ({share:.1%} of the original), "
            f"SQNR {assignment.sqnr:.1f} dB if errors add up",
            style="bold",
        ),
        Text(
            f"wrote {written}; run it: "
            f"onnxcompress compress {report.path} -o OUT.onnx --recipe {written}"
        ),
    )


def _name(unit: UnitReport) -> str:
    more = f" and {len(unit.nodes) - 1} more" if len(unit.nodes) > 1 else ""
    return f"{unit.nodes[0]} ({unit.op}){more}"


def _cells(damage: Damage, *, with_drop: bool) -> list[str]:
    if damage.reason is not None:
        return ["float", "", *([""] if with_drop else []), ""]
    drop = [""] if with_drop else []
    if damage.drop is not None:
        drop = [f"{damage.drop:.4f}"]
    saved = "" if damage.bytes is None else size_text(-damage.bytes)
    broken = damage.noise is None
    alone = "broken" if broken else _decibels(damage.sqnr)
    return [alone, _decibels(damage.sqnr_without), *drop, saved]


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _left_alone(report: SensitivityReport) -> Iterator[Text]:
    reasons = Counter(skip.reason for skip in report.skipped).most_common()
    for reason, count in reasons[:_MOST_REASONS]:
        first = next(skip.node for skip in report.skipped if skip.reason == reason)
        more = f" and {count - 1} more" if count > 1 else ""
        yield Text(f"left alone: {first}{more}: {reason}", style="dim")
    if len(reasons) > _MOST_REASONS:
        left = sum(count for _, count in reasons[_MOST_REASONS:])
        yield Text(f"left alone: {left} more, for other reasons (--json lists all)", style="dim")
