"""Reports as tables for a terminal."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxcompress.measure.size import Size
from onnxcompress.pass_base import Pass, PassReport
from onnxcompress.registry import options
from onnxcompress.report.figures import (
    drop_text,
    drops_text,
    interval_text,
    number_text,
    size_text,
)
from onnxcompress.report.outputs import output_lines
from onnxcompress.report.schema import (
    BenchReport,
    CandidateReport,
    CompressReport,
    DataReport,
    InspectReport,
    ModelReport,
    RoundReport,
    Status,
)

_STYLES = {
    Status.CHOSEN: "bold green",
    Status.HOLDS: "green",
    Status.OVER_BUDGET: "red",
    Status.NOT_BETTER: "yellow",
    Status.FAILED: "red",
    Status.NOT_TRIED: "dim",
}
_OF_THE_MODEL = frozenset({"graph", "training"})
"""What changes are recorded of that are of no single node, and are told one by one."""

_MOST_NAMES = 6
_MOST_REASONS = 6
_MOST_TENSORS = 8
_MOST_DEMANDS = 3


def compress_report(report: CompressReport) -> RenderableType:
    """What a user wants to see after `compress`: the table, what was left alone, the outcome."""
    table = _table(report.metric, "candidate")
    _add_model(table, report.baseline, report.baseline)
    for candidate in report.candidates:
        if candidate.model is not None:
            style = _STYLES[candidate.status]
            _add_model(table, candidate.model, report.baseline, style=style)
    outcomes = Table(box=None, pad_edge=False, show_header=False)
    for candidate in report.candidates:
        row = (candidate.name, candidate.status.value, candidate.reason)
        outcomes.add_row(*map(Text, row), style=_STYLES[candidate.status])
    parts: list[RenderableType] = [data_line(report.data), ""]
    if report.kept_round is not None:
        parts += [_rounds(report.rounds, report.kept_round), ""]
    parts += [table, "", *output_lines([report.chosen.model]), outcomes]
    parts += _chosen_lines(report.chosen, in_rounds=bool(report.rounds))
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    parts += ["", Text(report.verdict, style="bold green" if report.improved else "bold yellow")]
    parts.append(Text("wrote " + ", ".join(report.written)))
    if report.chosen.model is not None:
        parts.append(Text(_needed_release(report.chosen.model)))
    return Group(*parts)


def _rounds(rounds: Sequence[RoundReport], kept: int) -> Table:
    """A line for each round, as it was tested."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("round", "share", "zeros", "parameters", "bytes", "drop", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for each in rounds:
        status = Status.HOLDS if each.held else Status.OVER_BUDGET
        if each.number == kept:
            status = Status.CHOSEN
        outcome = status.value if each.changed else f"{status.value}; it changed nothing"
        table.add_row(
            str(each.number),
            f"{each.share:.0%}",
            f"{each.zeros:.1%}",
            f"{each.parameters:,}",
            size_text(each.file_bytes),
            drop_text(each.drop),
            drops_text(*each.drop_interval),
            outcome,
            style=_STYLES[status],
        )
    return table


def bench_report(report: BenchReport) -> RenderableType:
    """Models side by side; the first is the baseline."""
    table = _table(report.metric, "model")
    for model in report.models:
        _add_model(table, model, report.models[0])
    parts: list[RenderableType] = [data_line(report.data), "", table, ""]
    parts += output_lines(report.models[1:] or report.models)
    for model in report.models:
        ops = sorted(model.executed_ops.items(), key=lambda item: -item[1])
        parts += [
            Text(model.name, style="bold"),
            Text(f"  loads in {model.size.load_seconds * 1000:.0f} ms, {_memory_text(model.size)}"),
            Text("  runs " + ", ".join(f"{count} {op}" for op, count in ops)),
        ]
        parts.append(Text(f"  {_needed_release(model)}"))
        if model.surviving_qdq:
            shown = list(model.surviving_qdq[:_MOST_NAMES])
            if len(model.surviving_qdq) > _MOST_NAMES:
                shown.append(f"and {len(model.surviving_qdq) - _MOST_NAMES} more")
            parts.append(Text("  Q/DQ left unfused: " + ", ".join(shown)))
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    return Group(*parts)


def _memory_text(size: Size) -> str:
    if size.peak_memory_bytes is None:
        return f"its memory is not known ({size.memory_fault})"
    return f"takes {size_text(size.peak_memory_bytes)} of memory at most"


def inspect_report(report: InspectReport) -> RenderableType:
    """What a model holds and costs, and where its time goes."""
    facts = [
        ("file", f"{report.path}, {size_text(report.file_bytes)}"),
        ("parameters", f"{report.parameters:,} in {size_text(report.weight_bytes)}"),
        ("nodes", f"{report.nodes}, opset {report.opset}"),
        ("onnxruntime", _needed_release(report)),
        ("inputs", _first(report.inputs)),
        ("outputs", _first(report.outputs)),
        ("MACs", f"{report.macs:,} for one sample"),
    ]
    ops = Table(box=None, pad_edge=False, header_style="bold")
    ops.add_column("operator")
    for title in ("nodes", "parameters", "MACs"):
        ops.add_column(title, justify="right")
    for row in report.ops:
        ops.add_row(row.op, str(row.count), f"{row.parameters:,}", f"{row.macs:,}")
    parts: list[RenderableType] = [key_values(facts), "", ops]
    if report.times:
        times = Table(box=None, pad_edge=False, header_style="bold")
        times.add_column("as onnxruntime runs it")
        for title in ("nodes", "us a run", "share"):
            times.add_column(title, justify="right")
        for time in report.times:
            times.add_row(
                time.op_type, str(time.count), f"{time.microseconds:,.0f}", f"{time.share:.1%}"
            )
        parts += ["", times]
    parts += [Text(f"note: {note}", style="yellow") for note in report.notes]
    return Group(*parts)


def _first(tensors: Sequence[str]) -> str:
    """One a line; a decoder has a hundred of them, which --json lists."""
    shown = list(tensors[:_MOST_TENSORS])
    if len(tensors) > _MOST_TENSORS:
        shown.append(f"and {len(tensors) - _MOST_TENSORS} more")
    return "\n".join(shown)


def pass_table(types: Iterable[type[Pass]]) -> RenderableType:
    """Every pass by name, with its rewrite."""
    return key_values((each.name, summary(each)) for each in types)


def pass_help(pass_type: type[Pass]) -> RenderableType:
    """A pass with its description, options and defaults."""
    rows = [
        (name, f"{option.kind}, default {option.shown_default}")
        for name, option in options(pass_type).items()
    ]
    kind = "exact" if pass_type.exact else "changes outputs"
    return Group(
        Text(f"{pass_type.name} ({kind})", style="bold"),
        Text(inspect.getdoc(pass_type) or ""),
        "",
        key_values(rows) if rows else Text("It has no options."),
    )


def summary(pass_type: type[Pass]) -> str:
    """The rewrite: the first line of a pass's docstring."""
    return (inspect.getdoc(pass_type) or "").partition("\n")[0]


def _table(metric: str, first: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for title in ("bytes", "", metric, "drop", "95 %", "ms", "speed-up", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _add_model(
    table: Table, model: ModelReport, baseline: ModelReport, style: str | None = None
) -> None:
    """A row, on the samples that chose where there are such.

    The baseline's own row leaves out what compares it with itself.
    """
    latency, score = model.latency, model.chosen_by or model.score
    compared = ["", "", ""]
    if model is not baseline:
        compared = [
            drop_text(score.drop),
            drops_text(*score.drop_interval),
            interval_text(latency.speedup_low, latency.speedup_high, digits=2),
        ]
    table.add_row(
        Text(model.name),
        size_text(model.size.file_bytes),
        f"{model.size.file_bytes / baseline.size.file_bytes:.0%}",
        number_text(score.value),
        *compared[:2],
        f"{latency.median_ms:.3g}",
        f"{latency.speedup:.2f}x",
        compared[2],
        style=style,
    )


def _chosen_lines(chosen: CandidateReport, *, in_rounds: bool) -> Iterator[Text]:
    """What each pass of the chosen candidate did and left alone, with the reasons.

    A pass that ran in every round is told once, as it ended.
    """
    passes: Collection[PassReport] = chosen.passes
    yield Text(f"\nWhat {chosen.name} did{' in the end' if in_rounds else ''}:", style="bold")
    if in_rounds:
        passes = {each.name: each for each in passes}.values()
    silent = [each for each in passes if not (each.modified or each.error or each.skips)]
    for report in passes:
        yield from _pass_lines(report)
    if silent:
        names = ", ".join(report.name for report in silent)
        yield Text(f"  nothing to change for {names}", style="dim")


def _pass_lines(report: PassReport) -> Iterator[Text]:
    """One pass in a line, and a line for each reason why something was left alone."""
    if report.error is not None:
        yield Text(f"  {report.name}: rolled back: {report.error}", style="red")
    elif report.modified:
        nodes = f"{report.nodes_before} -> {report.nodes_after} nodes"
        sizes = f"{size_text(report.bytes_before)} -> {size_text(report.bytes_after)}"
        yield Text(f"  {report.name}: {nodes}, {sizes}; {report.verification}")
        for change in report.changes:
            if change.op in _OF_THE_MODEL:
                yield Text(f"    {change.detail}")
    elif report.skips:
        yield Text(f"  {report.name}: changed nothing")
    reasons = Counter(skip.reason for skip in report.skips).most_common()
    for reason, count in reasons[:_MOST_REASONS]:
        names = [skip.node for skip in report.skips if skip.reason == reason]
        more = f" and {count - 1} more" if count > 1 else ""
        yield Text(f"    left alone: {names[0]}{more}: {reason}", style="dim")
    if len(reasons) > _MOST_REASONS:
        left = sum(count for _, count in reasons[_MOST_REASONS:])
        yield Text(
            f"    left alone: {left} more, for other reasons (--json lists all)", style="dim"
        )


def _needed_release(report: ModelReport | InspectReport) -> str:
    """Which onnxruntime loads a model, and what rules out those before."""
    why = "; ".join(report.demands[:_MOST_DEMANDS])
    found = f"loads with onnxruntime {report.oldest_onnxruntime} and newer"
    return f"{found}: {why}" if why else found


def data_line(data: DataReport) -> Text:
    """What the numbers stand on."""
    labels = "labelled" if data.labelled else "unlabelled"
    judged = f"Judged on {data.evaluation_samples} {labels} samples"
    if not data.source:
        return Text(f"{judged} that were made up")
    parts = [f"{judged} from {data.source}"]
    calibrated = f"calibrated on {data.calibration_samples}"
    if data.validation_samples:
        parts.append(f"chosen by {data.validation_samples}")
    if data.training_samples:
        parts.append(f"fitted to {data.training_samples}, {calibrated} of these")
    elif data.calibration_samples:
        parts.append(f"{calibrated} others")
    return Text("; ".join(parts))


def key_values(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values in two columns."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
