"""Models in which some units are quantized and the others are not, built and scored."""

from __future__ import annotations

import math

import psutil

from onnxcompress.data.dataset import Dataset
from onnxcompress.errors import SessionError
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Model
from onnxcompress.ir.opset import require_opset
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.score import Score
from onnxcompress.measure.metric import CustomMetric, Metric
from onnxcompress.pass_base import Pass
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import Damage, PrecisionReport
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.loading import session_of
from onnxcompress.runtime.session import SessionSettings
from onnxcompress.sensitivity.units import (
    Unit,
    all_but,
    applied,
    bytes_of,
    only,
    reason_against,
)


class Bench:
    """Scores models on the same samples, beside the float model."""

    def __init__(self, model: Model, data: Dataset, metric: Metric | CustomMetric, batch_size: int):
        self._settings = SessionSettings(threads=psutil.cpu_count(logical=False) or 1)
        reference = session_of(model, self._settings)
        self._evaluation = Evaluation(
            reference, data, batch_size, metric, model=model, states=False
        )

    def score(self, model: Model) -> Score:
        """A model's score.

        Raises:
            SessionError: onnxruntime does not load or run it.
        """
        return self._evaluation.score(session_of(model, self._settings))


class Table:
    """One precision: what it does to the whole model, and to one unit at a time."""

    def __init__(self, name: str, pass_: Pass, model: Model, context: RuntimeContext, bench: Bench):
        self._name = name
        self._pass = pass_
        self._model = clone(model)
        self._context = context
        self._bench = bench
        require_opset(self._model, Pass.opset_for(pass_, self._model, context))
        self._nodes = {node.name: node for node in self._model.graph.nodes}
        self.float_bytes = bytes_of(self._model)
        # First, since it asks for all ranges at once, which the others then find.
        whole, _ = applied(pass_, self._model, context)
        self._whole_bytes = bytes_of(whole)
        self._whole_noise = bench.score(whole).drop

    def report(self) -> PrecisionReport:
        """The precision as a whole."""
        return PrecisionReport(
            name=self._name,
            recipe=Recipe.of([self._pass]).dump(),
            noise=finite(self._whole_noise),
            sqnr=decibels(self._whole_noise),
            bytes=self._whole_bytes,
        )

    def alone(self, unit: Unit) -> tuple[Model, str | None]:
        """The model with one unit quantized, or why the pass leaves it as it is."""
        nodes = [self._nodes[name] for name in unit.names]
        variant, edit = applied(only(self._pass, nodes), self._model, self._context)
        return variant, None if edit.modified else reason_against(unit, edit.skips)

    def damage(self, unit: Unit, *, alone_only: bool) -> Damage:
        """What the precision does to a unit, and the unit to the quantized model."""
        variant, reason = self.alone(unit)
        if reason is not None:
            return Damage(reason=reason)
        try:
            score = self._bench.score(variant)
            without = None if alone_only else decibels(self._without(unit).drop)
        except SessionError as fault:
            return Damage(reason=str(fault))
        low, high = score.drop_interval
        return Damage(
            noise=finite(score.drop),
            sqnr=decibels(score.drop),
            sqnr_low=decibels(high),
            sqnr_high=decibels(low),
            sqnr_without=without,
            bytes=bytes_of(variant) - self.float_bytes,
        )

    def _without(self, unit: Unit) -> Score:
        rest = all_but(self._pass, [self._nodes[name] for name in unit.names])
        return self._bench.score(applied(rest, self._model, self._context)[0])


def decibels(noise: float) -> float | None:
    """Noise over signal as SQNR in dB; None where it is infinite, or nothing is left of it."""
    return -10 * math.log10(noise) if 0 < noise < math.inf else None


def finite(value: float) -> float | None:
    """The value, or None where it is infinite."""
    return value if math.isfinite(value) else None
