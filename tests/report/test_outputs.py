"""The table of outputs."""

from __future__ import annotations

import math

from rich.console import Console, Group

from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.score import worst_of
from onnxcompress.report.outputs import output_lines
from onnxcompress.report.schema import ModelReport
from tests.scores import model_report, output_score


def _shown(*models: ModelReport | None) -> list[str]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(Group(*output_lines(models)))
    return [" ".join(line.split()) for line in capture.get().splitlines()]


def test_every_output_with_how_it_was_judged_and_why() -> None:
    outputs = [
        output_score(0.0123, 0.02, name="logits"),
        output_score(
            4e-6,
            name="boxes [x]",
            kind=OutputKind.NUMBERS,
            metric="r2",
            labelled=False,
            why="it is so",
        ),
        output_score(math.inf, name="all outputs", kind=None, problem="holds NaN"),
    ]
    lines = _shown(None, model_report(drop=worst_of(outputs), name="small"))
    assert lines == [
        "Outputs of small",
        "output kind metric original value drop interval",
        "logits choice top1, against labels 1.0000 0.9877 0.0123 0.0123..0.0200 exact",
        "boxes [x] numbers r2, against the original 1.0000 1.0000 4.0e-06 4.0e-06..4.0e-06 exact",
        "all outputs top1, against labels 1.0000 0.0000 inf inf..inf holds NaN",
        "logits was judged as choice: a test says so",
        "boxes [x] was judged as numbers: it is so",
        "all outputs was judged as all outputs: a test says so",
        "",
    ]


def test_of_many_outputs_the_worst_are_shown() -> None:
    outputs = [output_score(0.001 * number, name=f"y{number}") for number in range(20)]
    lines = _shown(model_report(drop=worst_of(outputs), name="small"))
    shown = [line.split()[0] for line in lines if " choice top1, " in line]
    assert shown == [f"y{number}" for number in range(19, 7, -1)]
    assert "and 8 more, which lose less (--json lists all)" in lines
    assert _shown(None) == []
