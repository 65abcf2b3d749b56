"""Measures what quantizing each weighted node does to a model's output.

One precision and one unit at a time, the real quantized model is built in memory and run in
onnxruntime. Few samples are enough to rank: `benchmarks.sensitivity` compares with many.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from onnxcompress.api_errors import own_errors
from onnxcompress.data.dataset import Dataset
from onnxcompress.data.given_shapes import Shapes
from onnxcompress.data.splitting import Shares
from onnxcompress.ir import io
from onnxcompress.ir.edit import Skip
from onnxcompress.measure.metrics import METRICS, resolve_metric
from onnxcompress.measure.size import file_bytes
from onnxcompress.pass_base import Pass
from onnxcompress.pass_manager import OnError, PassManager
from onnxcompress.progress import Progress, Silent
from onnxcompress.recipe import Recipe
from onnxcompress.report.schema import (
    SCHEMA_VERSION,
    Damage,
    SensitivityReport,
    UnitReport,
)
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session
from onnxcompress.search.candidates import CLEAN_UP, Goal, traits_of
from onnxcompress.search.samples import data_notes, load_samples
from onnxcompress.sensitivity.precision import default_precisions, labels
from onnxcompress.sensitivity.trials import Bench, Table, finite
from onnxcompress.sensitivity.units import Unit, find_units
from onnxcompress.target import Target

SAMPLES = 16
"""Samples that damage is measured on, unless all are asked for."""

JUDGED_BY_METRIC = 5
"""The most sensitive units, whose effect on the metric is measured where one is named."""


@own_errors
def analyze_sensitivity(
    model: str | os.PathLike[str],
    precisions: Sequence[Pass] | None = None,
    *,
    prepare: Sequence[Pass] | None = None,
    data: str | None = None,
    metric: str | None = None,
    samples: int | None = SAMPLES,
    alone_only: bool = False,
    target: Target | None = None,
    split: Shares | str | None = None,
    group_by: str | None = None,
    shapes: Shapes | None = None,
    batch_size: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> SensitivityReport:
    """Ranks weighted nodes by the damage that quantizing them does to the first output.

    The model is cleaned up as `compress` does it in its search. Then, for each precision and each
    unit (the nodes that read one weight), two models are run: one in which this unit alone is
    quantized, and one in which all but this unit is.

    Args:
        model: path of an .onnx file.
        precisions: the passes to ask about; None for static int8 where the model is convolutional
            and there are data, else for weights of 8, 4 and 2 bits.
        prepare: passes that run first, instead of the clean-up; what they do to the outputs is no
            damage, since the model after them is what the others are compared with.
        data: see `compress`. The part to fit calibrates and damage is measured on the part to
            choose by: what is decided by it can then be judged by `compress` on the same data.
        metric: also measure the drop of this metric, on all samples to choose by, for the most
            sensitive units.
        samples: how many to measure damage on; None for all to choose by.
        alone_only: do not run the models in which all but one unit is quantized: half the time.
        target: the processor to quantize for; None for this one.
        split: see `compress`.
        group_by: see `compress`.
        shapes: see `compress`.
        batch_size: samples in a batch.
        seed: of the split and of made-up samples.
        progress: told how it gets on.

    Raises:
        OnnxCompressError: the model or the data is not usable, or a pass fails on the whole model.
    """
    path, progress = Path(model), progress or Silent()
    loaded = io.load(path)
    parts = load_samples(
        data,
        Session(path),
        seed=seed,
        split=Shares.parse(split) if isinstance(split, str) else split,
        group_by=group_by,
        shapes=shapes,
    )
    context = RuntimeContext(
        parts.calibration,
        target=target,
        progress=progress.stage("Calibration"),
        training=parts.fit,
        shapes=shapes,
    )
    first = CLEAN_UP if prepare is None else prepare
    on_error = OnError.SKIP if prepare is None else OnError.STOP
    reports = PassManager(first, on_error=on_error).run(loaded, context)
    before = [each for each, report in zip(first, reports, strict=True) if report.modified]
    traits = traits_of(loaded, has_data=parts.calibration is not None, goal=Goal.SIZE)
    asked = default_precisions(traits) if precisions is None else tuple(precisions)
    names = labels(asked)
    chosen = _spread(parts.choosing, samples)
    bench = Bench(loaded, chosen, METRICS["sqnr"], batch_size)
    units, skips = find_units(loaded)
    rows = [_Row(unit) for unit in units]
    tables = []
    for name, pass_ in zip(names, asked, strict=True):
        table = Table(name, pass_, loaded, context, bench)
        advance = progress.stage(f"Sensitivity to {name}")
        for done, row in enumerate(rows, 1):
            row.damage.append(table.damage(row.unit, alone_only=alone_only))
            advance(done, len(rows))
        tables.append(table)
    rows.sort(key=_Row.worst, reverse=True)
    judged_by = resolve_metric(metric) if metric else None
    if judged_by is not None:
        judge = Bench(loaded, parts.choosing, judged_by, batch_size)
        advance = progress.stage(f"Drop of {judged_by.name}")
        top = [row for row in rows if row.is_changed][:JUDGED_BY_METRIC]
        for done, row in enumerate(top, 1):
            for index, table in enumerate(tables):
                row.judge(index, table, judge)
            advance(done, len(top))
    stands_on = parts.report_on_choosing()
    return SensitivityReport(
        schema_version=SCHEMA_VERSION,
        path=str(path),
        file_bytes=file_bytes(path),
        target=context.target.value,
        data=stands_on,
        samples=len(chosen),
        metric=judged_by.name if judged_by else None,
        clean_up=Recipe.of(before).dump() if before else "",
        clean_bytes=max(table.float_bytes for table in tables),
        precisions=tuple(table.report() for table in tables),
        units=tuple(row.report() for row in rows if row.is_changed),
        skipped=(*skips, *(skip for row in rows if not row.is_changed for skip in row.skips())),
        notes=(*data_notes(stands_on), *_notes(tables)),
    )


@dataclass
class _Row:
    """One unit with what was found for each precision so far."""

    unit: Unit
    damage: list[Damage] = field(default_factory=list)

    @property
    def is_changed(self) -> bool:
        """Whether any precision changes it."""
        return any(each.reason is None for each in self.damage)

    def worst(self) -> float:
        """The noise of the precision that harms it most; infinite where outputs broke."""
        noises = [each.noise for each in self.damage if each.reason is None]
        return max((math.inf if noise is None else noise for noise in noises), default=-1.0)

    def judge(self, index: int, table: Table, judge: Bench) -> None:
        """Adds the drop of the metric for one precision."""
        if self.damage[index].reason is None:
            drop = judge.score(table.alone(self.unit)[0]).drop
            self.damage[index] = replace(self.damage[index], drop=finite(drop))

    def skips(self) -> Iterator[Skip]:
        """Why each node was left alone."""
        reason = self.damage[0].reason
        assert reason is not None
        return (Skip(node.name, node.op, reason) for node in self.unit.nodes)

    def report(self) -> UnitReport:
        """The row of the table."""
        return UnitReport(
            nodes=self.unit.names,
            op=self.unit.nodes[0].op,
            weight=self.unit.weight.name,
            parameters=self.unit.weight.size,
            damage=tuple(self.damage),
        )


def _spread(data: Dataset, samples: int | None) -> Dataset:
    """Samples from all over the data, which may be sorted."""
    count = len(data) if samples is None else min(samples, len(data))
    return data.take(np.linspace(0, len(data) - 1, count).round().astype(np.int64))


def _notes(tables: Sequence[Table]) -> Iterator[str]:
    for table in tables:
        report = table.report()
        if report.noise is None:
            yield f"with {report.name} everywhere the outputs hold NaN or changed their shape"
