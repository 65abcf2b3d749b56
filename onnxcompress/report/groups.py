"""Dependency groups, as a table for a terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxcompress.report.groups_schema import GroupReport, GroupsReport

_MOST_MEMBERS = 4


def groups_report(report: GroupsReport) -> RenderableType:
    """A row for each group, then what cannot be cut, reason by reason."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("group", overflow="fold")
    table.add_column("units", justify="right")
    table.add_column("parameters", justify="right")
    table.add_column("MACs", justify="right")
    table.add_column("a unit is", overflow="fold")
    for group in report.groups:
        parameters = group.units * group.parameters_per_unit / max(report.parameters, 1)
        macs = group.units * group.macs_per_unit / max(report.macs, 1)
        table.add_row(
            Text(group.name),
            str(group.units),
            f"{min(parameters, 1):.1%}",
            f"{min(macs, 1):.1%}",
            Text(_unit(group)),
        )
    parts: list[RenderableType] = [
        Text(f"{len(report.groups)} dependency groups after clean-up", style="bold"),
        table,
    ]
    reasons = Counter(each.reason for each in report.skipped)
    for reason, count in reasons.most_common():
        first = next(each for each in report.skipped if each.reason == reason)
        more = f" and {count - 1} more nodes" if count > 1 else ""
        told = (
            f"not followed: {first.channels} channels of {first.node} ({first.op}){more}: {reason}"
        )
        parts.append(Text(told, style="dim"))
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    return Group(*parts)


def _unit(group: GroupReport) -> str:
    shown = [
        f"{member.slices} of axis {member.axis} of {member.tensor}"
        for member in group.members[:_MOST_MEMBERS]
    ]
    more = len(group.members) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
