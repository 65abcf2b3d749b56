"""What each output of a model is, how it was judged, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from onnxcompress.judging.score import OutputScore
from onnxcompress.report.figures import drop_text, drops_text, number_text
from onnxcompress.report.schema import ModelReport

_MOST = 12
"""Outputs that are listed, the worst first where there are more; --json lists all."""


def output_lines(models: Sequence[ModelReport | None]) -> Iterator[RenderableType]:
    """A table of the outputs of each model, then what each was taken for and why."""
    told = [model for model in models if model is not None and model.score.outputs]
    if not told:
        return
    for model in told:
        yield Text(f"Outputs of {model.name}", style="bold")
        yield _table(_listed(model.score.outputs))
        left = len(model.score.outputs) - _MOST
        if left > 0:
            yield Text(f"  and {left} more, which lose less (--json lists all)", style="dim")
    for model in told:
        for each in model.score.outputs:
            for sentence in each.unseen:
                yield Text(f"  {model.name}, {each.name}: {sentence}", style="yellow")
    for each in _listed(told[0].score.outputs):
        kind = each.kind.value if each.kind is not None else "all outputs"
        yield Text(f"  {each.name} was judged as {kind}: {each.why}", style="dim")
    yield Text("")


def _listed(outputs: Sequence[OutputScore]) -> Sequence[OutputScore]:
    if len(outputs) <= _MOST:
        return outputs
    return sorted(outputs, key=lambda each: -each.drop)[:_MOST]


def _remark(output: OutputScore) -> str:
    figures = dict(output.beside or {})
    if output.scores_kept is not None:
        figures["scores kept"] = output.scores_kept
    told = [f"{name} {number_text(value)}" for name, value in figures.items()]
    return "; ".join([output.interval_kind.value, *told])


def _table(outputs: Sequence[OutputScore]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("output", "kind", "metric"):
        table.add_column(title, overflow="fold")
    for title in ("original", "value", "drop", "interval"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for each in outputs:
        against = "labels" if each.labelled else "the original"
        table.add_row(
            Text(each.name),
            "" if each.kind is None else each.kind.value,
            f"{each.metric}, against {against}",
            number_text(each.reference_value),
            number_text(each.value),
            drop_text(each.drop),
            drops_text(*each.drop_interval),
            each.problem or _remark(each),
        )
    return table
