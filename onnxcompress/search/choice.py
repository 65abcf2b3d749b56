"""Which of the measured models is the answer: an order fixed by some samples, tested on others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from onnxcompress.budget import Budget
from onnxcompress.judging.score import Score, Verdict
from onnxcompress.report.schema import ModelReport, Status
from onnxcompress.search.candidates import Goal

CLOSE = 0.97
"""Candidates within this share of the best are as good; the more accurate one is taken."""

_UNTOUCHED = (Status.NOT_BETTER, "its passes changed nothing")


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidates by what the samples say that choose.

    Attributes:
        order: those that are better than the original and hold the budget, the best first.
        statuses: for every measured candidate, what became of it and why.
    """

    order: tuple[str, ...]
    statuses: Mapping[str, tuple[Status, str]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The outcome of a search.

    Attributes:
        name: the candidate to write.
        improved: whether it is better than the original and holds the budget.
        verdict: what the samples that judge say about it; None where none do.
        statuses: for every measured candidate, what became of it and why.
        finals: the scores of candidates on the samples that judge.
    """

    name: str
    improved: bool
    verdict: Verdict | None
    statuses: Mapping[str, tuple[Status, str]]
    finals: Mapping[str, Score]


def rank(
    baseline: ModelReport,
    candidates: Mapping[str, ModelReport],
    budget: Budget,
    goal: Goal,
    *,
    untouched: Collection[str] = (),
) -> Ranking:
    """Orders the candidates that are better than the original and hold the budget.

    Faster means that the whole 95 % interval of the speed-up lies above 1. Among candidates that
    are as good as the best of those left within `CLOSE`, the one with the smallest drop comes next.

    Args:
        baseline: the original.
        candidates: what was measured, by name.
        budget: what a result may cost.
        goal: what counts as better.
        untouched: candidates that compute just what the original does; a speed-up would be noise.
    """
    statuses = {
        name: _UNTOUCHED if name in untouched else _status(baseline, each, budget, goal)
        for name, each in candidates.items()
    }
    left = [name for name, (status, _) in statuses.items() if status is Status.HOLDS]
    gains = {name: _gain(baseline, candidates[name], goal) for name in left}
    order = []
    while left:
        close = [name for name in left if gains[name] >= CLOSE * max(gains[each] for each in left)]
        best = min(close, key=lambda each: (candidates[each].score.drop, -gains[each]))
        order.append(best)
        left.remove(best)
    return Ranking(order=tuple(order), statuses=statuses)


def choose(
    ranking: Ranking,
    judge: Callable[[str], Score],
    budget: Budget,
    *,
    must_be_proved: bool,
    fallback: str,
) -> Choice:
    """Takes the first candidate of the order that the samples that judge do not refuse.

    The order is fixed before they are seen, so each is tested as if it were the only one
    (fixed-sequence testing; "Learn then Test", Angelopoulos et al. 2021).

    Args:
        ranking: the order, from other samples.
        judge: the score of a candidate on the samples that judge.
        budget: what a result may cost.
        must_be_proved: whether it is not enough that the estimate holds the budget.
        fallback: what to write if nothing is better.
    """
    statuses, finals = dict(ranking.statuses), {}
    for name in ranking.order:
        finals[name] = judge(name)
        verdict = finals[name].verdict(budget)
        if verdict is Verdict.PROVED or (verdict is Verdict.HELD and not must_be_proved):
            statuses[name] = (Status.CHOSEN, statuses[name][1])
            return Choice(
                name=name, improved=True, verdict=verdict, statuses=statuses, finals=finals
            )
        said = drop_beside(finals[name], budget)
        if verdict is Verdict.HELD:
            said = f"{said}, but not proved"
        statuses[name] = (Status.OVER_BUDGET, f"{said}, on the samples that judge")
    finals[fallback] = judge(fallback)
    statuses[fallback] = (Status.CHOSEN, statuses[fallback][1])
    return Choice(
        name=fallback,
        improved=False,
        verdict=finals[fallback].verdict(budget),
        statuses=statuses,
        finals=finals,
    )


def drop_beside(score: Score, budget: Budget) -> str:
    """The worst drop beside what is allowed, and the output it is of where there are several."""
    worst = max(score.outputs, key=lambda each: each.drop - each.allowed(budget))
    allowed = worst.allowed(budget)
    where = f" of {worst.name}" if len(score.outputs) > 1 else ""
    if worst.problem is not None:
        return f"{worst.name} {worst.problem}"
    sign = "<=" if worst.drop <= allowed else ">"
    return f"drop{where} {worst.drop:.3g} {sign} {allowed:.4g} allowed"


def _gain(baseline: ModelReport, candidate: ModelReport, goal: Goal) -> float:
    if goal is Goal.SPEED:
        return candidate.latency.speedup
    return baseline.size.file_bytes / candidate.size.file_bytes


def _status(
    baseline: ModelReport, candidate: ModelReport, budget: Budget, goal: Goal
) -> tuple[Status, str]:
    said = drop_beside(candidate.score, budget)
    if candidate.score.verdict(budget) is Verdict.FAILED:
        return Status.OVER_BUDGET, said
    latency = candidate.latency
    if goal is Goal.SPEED and latency.speedup_low <= 1:
        interval = f"{latency.speedup_low:.2f}-{latency.speedup_high:.2f}"
        return Status.NOT_BETTER, f"speed-up {latency.speedup:.2f}x ({interval}) is not surely > 1"
    if goal is Goal.SIZE and candidate.size.file_bytes >= baseline.size.file_bytes:
        return Status.NOT_BETTER, "takes as many bytes as the original"
    return Status.HOLDS, said
