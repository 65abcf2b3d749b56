"""What is asked of one output: which metric compares what, read how, with which labels."""

from __future__ import annotations

from dataclasses import dataclass

from onnxcompress.errors import RecipeError
from onnxcompress.judging.kinds import OutputKind
from onnxcompress.judging.readings import Reading
from onnxcompress.measure.metric import Metric
from onnxcompress.measure.metrics import METRICS, resolve_metric


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a user asks for: to judge this output, perhaps as this kind or by this metric."""

    output: str
    kind: OutputKind | None = None
    metric: Metric | None = None

    @staticmethod
    def of(output: str, choice: str | None) -> Judged:
        """An output with the word that says how it is judged: a kind, a metric or nothing.

        Raises:
            RecipeError: there is no such kind or metric.
        """
        if choice is None:
            return Judged(output=output)
        kinds = {kind.value: kind for kind in OutputKind}
        if choice in kinds:
            return Judged(output=output, kind=kinds[choice])
        try:
            metric = resolve_metric(choice)
        except RecipeError as fault:
            known = f"kinds are {', '.join(kinds)}; metrics {', '.join(METRICS)}"
            raise RecipeError(
                f"output {output!r} cannot be judged by {choice!r}, which is no kind and no "
                f"metric; {known}"
            ) from fault
        if not isinstance(metric, Metric):
            raise RecipeError(
                f"output {output!r}: a function of your own sees all outputs; give it as --metric "
                f"{choice}"
            )
        return Judged(output=output, metric=metric)


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """How one output, or several together, are judged.

    Attributes:
        outputs: their names.
        kind: what they say.
        why: what that was taken from.
        metric: what judges them.
        reading: what it compares.
        labels: the name of what it compares with, see `Labels`; None for the original's outputs.
        tolerance: the drop is divided by it.
        samples: on how many samples at most; None for all.
        scores: what is asked of the scores behind choices, beside the choices.
        beside: metrics of the same form that are told and decide nothing.
        caveat: what a metric of the user's choice leaves out that the default one sees.
    """

    outputs: tuple[str, ...]
    kind: OutputKind
    why: str
    metric: Metric
    reading: Reading
    labels: str | None = None
    tolerance: float = 1.0
    samples: int | None = None
    scores: Question | None = None
    beside: tuple[Metric, ...] = ()
    caveat: str | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return " + ".join(self.outputs)
