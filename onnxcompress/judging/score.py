"""How much worse a candidate is than the original, output by output; one meaning of *drop*.

A drop is what is lost, as a fraction of the scale that a budget is given in: more is worse, 0 is as
good as the original, below 0 is better. `measure.metrics` says what it is for each metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from onnxcompress.budget import Budget
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.measure.intervals import IntervalKind


class Verdict(Enum):
    """What the samples say about a budget."""

    PROVED = "proved"
    HELD = "held"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class OutputScore:
    """What a candidate makes of one output, or of several that say one thing together.

    Attributes:
        name: of the output; names of several are joined by ` + `.
        kind: what it says; None for a metric of the user's own, which looks at all outputs.
        metric: what judged it.
        why: what its kind was taken from.
        labelled: whether the metric looked at labels.
        value: the candidate's; the worst possible one where it cannot be judged.
        reference_value: the original's own.
        drop: see this module; infinite for a candidate whose output cannot be compared.
        drop_interval: of the drop, over samples drawn like these.
        interval_kind: how the interval was found.
        constant_drop: what a model would drop that answers the same to all samples; the output
            proves nothing about a budget that is not below it. None where that is not known.
        beside: further figures by name, which decide nothing.
        problem: why the output cannot be compared, if so.
        scores_kept: for choices compared with the original's, the share of what varies in the
            scores behind them that is kept; for detections, how well boxes and scores of those
            found again fit, see `measure.detection_fit`. Part of the drop, see docs/measuring.md.
        drop_is_relative: whether the drop is a share of the original's value by itself.
        unseen: sentences on what is lost where the metric does not look; they decide nothing.
    """

    name: str
    kind: OutputKind | None
    metric: str
    why: str
    labelled: bool
    value: float
    reference_value: float
    drop: float
    drop_interval: tuple[float, float]
    interval_kind: IntervalKind
    constant_drop: float | None = None
    beside: dict[str, float] | None = None
    problem: str | None = None
    scores_kept: float | None = None
    drop_is_relative: bool = False
    unseen: tuple[str, ...] = ()

    def allowed(self, budget: Budget) -> float:
        """The largest drop that holds a budget.

        Raises:
            DataError: it asks for a share of a metric that is infinite.
        """
        return budget.allowed(self.reference_value, drop_is_relative=self.drop_is_relative)

    def verdict(self, budget: Budget) -> Verdict:
        """What these samples say about a budget; see `Score.verdict`."""
        allowed = self.allowed(budget)
        if not self.drop <= allowed:
            return Verdict.FAILED
        proves = self.constant_drop is None or self.constant_drop > allowed
        holds_its_level = self.interval_kind is not IntervalKind.APPROXIMATE
        is_within = self.drop_interval[1] <= allowed
        return Verdict.PROVED if proves and holds_its_level and is_within else Verdict.HELD


@dataclass(frozen=True, kw_only=True)
class Score:
    """A candidate's accuracy beside the original's: that of its worst output.

    Attributes:
        value: of the output with the largest drop; `reference_value` likewise.
        drop: the largest over the outputs.
        drop_interval: from the largest lower end to the largest upper end over the outputs.
        outputs: every output that was judged, in the model's order.
    """

    value: float
    reference_value: float
    drop: float
    drop_interval: tuple[float, float]
    outputs: tuple[OutputScore, ...] = ()

    @property
    def worst(self) -> OutputScore:
        """The output with the largest drop."""
        return max(self.outputs, key=lambda each: (each.drop, each.drop_interval[1]))

    def verdict(self, budget: Budget) -> Verdict:
        """What these samples say about a budget: the least that they say of any output.

        Proved: the whole interval is within the budget and no mere approximation, as it is on few
        samples, and a model that answers the same to every sample would not hold it. Held: the
        drop is. Failed: it is not, or cannot be told.
        """
        verdicts = {each.verdict(budget) for each in self.outputs}
        return next(each for each in reversed(Verdict) if each in verdicts)


def with_scores(choices: OutputScore, scores: OutputScore) -> OutputScore:
    """The score of choices, and of the scores behind them: the worse of both."""
    low, high = choices.drop_interval
    constant = None
    if choices.constant_drop is not None and scores.constant_drop is not None:
        constant = max(choices.constant_drop, scores.constant_drop)
    return replace(
        choices,
        constant_drop=constant,
        drop=max(choices.drop, scores.drop),
        drop_interval=(max(low, scores.drop_interval[0]), max(high, scores.drop)),
        problem=choices.problem or scores.problem,
        scores_kept=scores.value,
    )


def worst_of(outputs: Sequence[OutputScore]) -> Score:
    """The score of a model, from those of its outputs (at least one)."""
    worst = max(outputs, key=lambda each: (each.drop, each.drop_interval[1]))
    low = max(each.drop_interval[0] for each in outputs)
    high = max(each.drop_interval[1] for each in outputs)
    return Score(
        value=worst.value,
        reference_value=worst.reference_value,
        drop=worst.drop,
        drop_interval=(low, high),
        outputs=tuple(outputs),
    )


def beside_itself(score: Score) -> Score:
    """The original's own score: it loses nothing to itself, whatever the samples."""
    none = (0.0, 0.0)
    outputs = [
        replace(each, drop=0.0, drop_interval=none, interval_kind=IntervalKind.EXACT, unseen=())
        for each in score.outputs
    ]
    return worst_of(outputs)
