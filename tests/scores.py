"""Scores of models that there are not, for tests of what is made of them."""

from __future__ import annotations

import math
from typing import Any

from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.score import OutputScore, Score, worst_of
from onnxcompress.measure.intervals import IntervalKind
from onnxcompress.measure.latency import Latency
from onnxcompress.measure.size import Size
from onnxcompress.report.schema import ModelReport


def output_score(
    drop: float = 0.0, high: float | None = None, *, name: str = "y", **others: Any
) -> OutputScore:
    """One output's; the interval is the drop alone unless its upper end is given."""
    reference: float = others.pop("reference_value", 1.0)
    given = {
        "name": name,
        "kind": OutputKind.CHOICE,
        "metric": "top1",
        "why": "a test says so",
        "labelled": True,
        "value": reference - drop if math.isfinite(drop) else 0.0,
        "reference_value": reference,
        "drop": drop,
        "drop_interval": (drop, drop if high is None else high),
        "interval_kind": IntervalKind.EXACT,
    }
    return OutputScore(**{**given, **others})


def score(drop: float = 0.0, high: float | None = None, **others: Any) -> Score:
    """A model's of one output."""
    return worst_of([output_score(drop, high, **others)])


def model_report(
    speedup: float = 1.0,
    drop: float | Score = 0.0,
    size: int = 100,
    low: float | None = None,
    name: str = "",
) -> ModelReport:
    """A model's whole report."""
    return ModelReport(
        name=name,
        nodes=1,
        parameters=1,
        size=Size(file_bytes=size, load_seconds=0.1, peak_memory_bytes=1),
        score=drop if isinstance(drop, Score) else score(drop),
        latency=Latency(
            median_ms=10 / speedup,
            q1_ms=1,
            q3_ms=1,
            speedup=speedup,
            speedup_low=speedup - 0.05 if low is None else low,
            speedup_high=speedup + 0.05,
            rounds=5,
            runs_per_round=1,
        ),
        executed_ops={},
        surviving_qdq=(),
    )
