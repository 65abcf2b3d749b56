"""Which of the measured models is the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onnxcompress.report.schema import ModelReport, Status
from onnxcompress.search.candidates import Goal

CLOSE = 0.97
"""Candidates within this share of the best are as good; the more accurate one is taken."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The outcome of a search.

    Attributes:
        name: the candidate to write.
        improved: whether it is better than the original and holds the budget.
        verdict: the outcome in a sentence.
        statuses: for every measured candidate, what became of it and why.
    """

    name: str
    improved: bool
    verdict: str
    statuses: Mapping[str, tuple[Status, str]]


_UNTOUCHED = (Status.NOT_BETTER, "its passes changed nothing")


def choose(
    baseline: ModelReport,
    candidates: Mapping[str, ModelReport],
    max_drop: float,
    goal: Goal,
    *,
    fallback: str,
    untouched: Collection[str] = (),
) -> Choice:
    """Takes the fastest, or smallest, candidate whose drop is within the budget.

    Faster means that the whole 95 % interval of the speed-up lies above 1. Among candidates that
    are as good within `CLOSE`, the one with the smallest drop is taken.

    Args:
        baseline: the original.
        candidates: what was measured, by name; holds `fallback`.
        max_drop: the budget.
        goal: what counts as better.
        fallback: what to write if nothing is better.
        untouched: candidates that compute just what the original does; a speed-up would be noise.
    """
    statuses = {
        name: _UNTOUCHED if name in untouched else _status(baseline, each, max_drop, goal)
        for name, each in candidates.items()
    }
    holding = [name for name, (status, _) in statuses.items() if status is Status.HOLDS]
    if not holding:
        name, improved = fallback, False
    else:
        gains = {name: _gain(baseline, candidates[name], goal) for name in holding}
        close = [name for name in holding if gains[name] >= CLOSE * max(gains.values())]
        name = min(close, key=lambda each: (candidates[each].score.drop, -gains[each]))
        improved = True
    statuses[name] = (Status.CHOSEN, statuses[name][1])
    return Choice(
        name=name,
        improved=improved,
        verdict=_verdict(baseline, candidates[name], name, improved=improved),
        statuses=statuses,
    )


def _gain(baseline: ModelReport, candidate: ModelReport, goal: Goal) -> float:
    if goal is Goal.SPEED:
        return candidate.latency.speedup
    return baseline.size.file_bytes / candidate.size.file_bytes


def _status(
    baseline: ModelReport, candidate: ModelReport, max_drop: float, goal: Goal
) -> tuple[Status, str]:
    drop = candidate.score.drop
    if not drop <= max_drop:
        return Status.OVER_BUDGET, f"drop {drop:.4g} > {max_drop:.4g} allowed"
    latency = candidate.latency
    if goal is Goal.SPEED and latency.speedup_low <= 1:
        interval = f"{latency.speedup_low:.2f}-{latency.speedup_high:.2f}"
        return Status.NOT_BETTER, f"speed-up {latency.speedup:.2f}x ({interval}) is not surely > 1"
    if goal is Goal.SIZE and candidate.size.file_bytes >= baseline.size.file_bytes:
        return Status.NOT_BETTER, "takes as many bytes as the original"
    return Status.HOLDS, f"drop {drop:.4g} <= {max_drop:.4g} allowed"


def _verdict(baseline: ModelReport, chosen: ModelReport, name: str, *, improved: bool) -> str:
    size = f"{chosen.size.file_bytes / baseline.size.file_bytes:.0%} of the bytes"
    speed = f"{chosen.latency.speedup:.2f}x as fast"
    if improved:
        return f"{name}: {speed}, {size}, drop {chosen.score.drop:.4g}"
    return f"nothing better than the original was found; wrote {name!r} ({speed}, {size})"
