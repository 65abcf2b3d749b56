"""Several models, measured beside the first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnxcompress.api_errors import own_errors
from onnxcompress.data.given_shapes import Shapes
from onnxcompress.judging.question import Judged
from onnxcompress.measure.bootstrap import CONFIDENCE
from onnxcompress.measure.environment import environment
from onnxcompress.measure.metric import OwnMetric
from onnxcompress.measure.metrics import resolve_metric
from onnxcompress.progress import Progress, Silent
from onnxcompress.report.schema import SCHEMA_VERSION, BenchReport
from onnxcompress.runtime.session import Session
from onnxcompress.search.judge import Judge
from onnxcompress.search.samples import data_notes, load_to_judge


@own_errors
def benchmark(
    models: Sequence[str | os.PathLike[str]],
    *,
    data: str | None = None,
    metric: str | OwnMetric | None = None,
    confidence: float | None = None,
    judge_outputs: Sequence[tuple[str, str | None]] = (),
    shapes: Shapes | None = None,
    threads: int = 1,
    batch_size: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> BenchReport:
    """Measures accuracy, latency and size of models beside the first of them.

    Args:
        models: paths of .onnx files that take the same inputs; the first is the baseline.
        data: see `compress`; all of it is used to judge.
        metric: see `compress`.
        confidence: of the intervals; None for 0.95.
        judge_outputs: see `compress`.
        shapes: see `compress`.
        threads: threads that latency is measured with.
        batch_size: samples in a batch, for accuracy and latency.
        seed: of made-up samples and resampling.
        progress: told how it gets on.

    Raises:
        OnnxCompressError: a model or the data is not usable.
    """
    baseline, *others = (Path(model) for model in models)
    samples = load_to_judge(data, Session(baseline), seed=seed, shapes=shapes)
    judge = Judge(
        baseline,
        samples.judging,
        resolve_metric(metric) if metric else None,
        judged=tuple(Judged.of(*each) for each in judge_outputs),
        made_up=data is None,
        confidence=confidence or CONFIDENCE,
        threads=threads,
        batch_size=batch_size,
        seed=seed,
        progress=progress or Silent(),
    )
    latencies = judge.latencies(others)
    return BenchReport(
        schema_version=SCHEMA_VERSION,
        metric=judge.metric,
        data=replace(
            samples.report, labelled=any(each.labelled for each in judge.original.outputs)
        ),
        environment=environment(threads),
        models=tuple(
            judge.report(path, str(path), latency)
            for path, latency in zip([baseline, *others], latencies, strict=True)
        ),
        notes=tuple(data_notes(samples.report)),
    )
