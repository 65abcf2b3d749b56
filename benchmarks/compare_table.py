"""The comparison as Markdown and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.results import environment_line
from onnxcompress.measure.environment import Environment
from onnxcompress.report.figures import size_text
from onnxcompress.report.schema import ModelReport

_HEAD = ("model", "bytes", "of original", "{metric}, %", "drop (95 %)", "ms", "speed-up (95 %)")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of a comparison.

    Attributes:
        name: which tool and settings made it.
        made: how it was made, in words.
        failure: why there is none; empty if there is one.
        model: the measurements; None if it failed.
    """

    name: str
    made: str = ""
    failure: str = ""
    model: ModelReport | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Models of one subject, measured in one run; the first row is the original.

    Attributes:
        subject: its name.
        metric: what accuracy is told in.
        samples: measured on.
        environment: measured with.
        rows: the models.
    """

    subject: str
    metric: str
    samples: int
    environment: Environment
    rows: tuple[Row, ...]


def section(comparison: Comparison) -> str:
    """One subject's heading, table and remarks."""
    head = [each.format(metric=comparison.metric) for each in _HEAD]
    lines = [
        f"## {comparison.subject}",
        "",
        f"{comparison.samples} held-out samples.",
        "",
        _line(head),
        _line(["---", *["---:"] * (len(head) - 1)]),
    ]
    original = comparison.rows[0].model
    assert original is not None
    lines += [_line(_cells(row, original)) for row in comparison.rows]
    remarks = [f"- {row.name}: {row.made}." for row in comparison.rows if row.made]
    return "\n".join([*lines, "", *remarks]) + "\n"


def page(comparisons: Sequence[Comparison], command: str) -> str:
    """All subjects, with what they were measured on and how."""
    head = f"""# Side by side

{environment_line(comparisons[0].environment)}
Made by `{command}`. Times are of batch 1, the models of a table interleaved; a speed-up is the
median of the rounds' ratios to the original.
"""
    return "\n".join([head, *map(section, comparisons)])


def write(comparisons: Sequence[Comparison], command: str, markdown: Path, json: Path) -> None:
    """Writes the page, and everything that was measured as JSON."""
    everything = {"command": command, "subjects": list(comparisons)}
    for path, text in (
        (markdown, page(comparisons, command)),
        (json, msgspec.json.format(msgspec.json.encode(everything), indent=2).decode() + "\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _cells(row: Row, original: ModelReport) -> Iterator[str]:
    """A row; a failed one says why, the original leaves out what compares it with itself."""
    model = row.model
    if model is None:
        yield from (row.name, f"failed: {row.failure.replace('|', '/')}", *[""] * 5)
        return
    size, score, latency = model.size.file_bytes, model.score, model.latency
    itself = model is original
    yield f"**{row.name}**" if row.name == "onnxcompress" else row.name
    yield size_text(size)
    yield f"{size / original.size.file_bytes:.0%}"
    yield _percent(score.value)
    yield "" if itself else _interval(_percent, score.drop, score.drop_interval)
    yield f"{latency.median_ms:.3g}"
    between = latency.speedup_low, latency.speedup_high
    yield "" if itself else _interval(_times, latency.speedup, between)


def _interval(shown: Callable[[float], str], value: float, ends: tuple[float, float]) -> str:
    return f"{shown(value)} ({shown(ends[0])}..{shown(ends[1])})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if math.isfinite(share) else str(share)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
