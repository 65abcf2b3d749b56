"""The tables of docs/measuring.md say what the tables of the code say."""

from __future__ import annotations

from pathlib import Path

from onnxcompress.judging.kinds import KINDS
from onnxcompress.measure.metric import Target
from onnxcompress.measure.metrics import METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text(encoding="utf-8")


def test_every_metric_stands_in_the_table_with_its_meaning() -> None:
    for metric in METRICS.values():
        labelled = metric.title if metric.target is Target.LABELS else ""
        beside = metric.without_labels or metric
        other = beside.title if beside.target is Target.REFERENCE else ""
        assert (
            f"| `{metric.name}` |{labelled and f' {labelled}'} |{other and f' {other}'} |" in PAGE
        )


def test_every_kind_stands_in_the_table_with_its_metrics() -> None:
    for kind, row in KINDS.items():
        labelled = f" `{row.with_labels}`" if row.with_labels else ""
        assert f"| `{kind.value}` | {row.title} | `{row.metric}` |{labelled} |" in PAGE
