"""Judges one graph beside another, where what computes an output matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.ir.from_proto import import_model
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.question import Judged
from onnxcompress.judging.score import Score
from onnxcompress.measure.metrics import resolve_metric
from onnxcompress.runtime.session import Session
from tests.helpers import proto
from tests.judging.scripted import parted


def judge_graphs(
    original: str | onnx.ModelProto,
    candidate: str | onnx.ModelProto,
    data: Mapping[str, np.ndarray] | Path,
    *,
    metric: str | None = None,
    judged: Sequence[str] = (),
    batch_size: int = 1,
) -> Score:
    """The score of the candidate, both written as ONNX text or messages."""
    first, second = (
        proto(each) if isinstance(each, str) else each for each in (original, candidate)
    )
    session = Session(first.SerializeToString())
    inputs = session.inputs
    samples = (
        load_dataset(str(data), inputs) if isinstance(data, Path) else dataset_of(data, inputs)
    )
    evaluation = Evaluation(
        session,
        samples,
        batch_size,
        resolve_metric(metric) if metric else None,
        model=import_model(first),
        judged=[Judged.of(name, how or None) for name, _, how in map(parted, judged)],
    )
    return evaluation.score(Session(second.SerializeToString()))
