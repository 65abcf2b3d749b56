"""Models, what they answer, and what `bench` says of a candidate's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.runtime.session import Session

Outputs = list[dict[str, Any]]
"""What a model answers to each sample alone: by output name, an array or a list of maps."""

Quality = Callable[[Outputs, Outputs], float]
"""From the original's outputs and a candidate's: 1 if it does as well, 0 if it is of no use."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is right for one model.

    Attributes:
        kinds: the kind of each output, by its name.
        quality: how well a candidate does the model's job, written without onnxcompress.
    """

    kinds: Mapping[str, str]
    quality: Quality


Verdict = dict[str, tuple[str, float]]
"""The kind and the drop of each of a candidate's outputs, as `bench` has them."""


def judged(original: Path, candidate: Path, data: Path) -> Verdict:
    """The verdict on one candidate."""
    return judged_together(original, [candidate], data)[0]


def judged_together(original: Path, candidates: Sequence[Path], data: Path) -> list[Verdict]:
    """The verdict on each candidate, as `bench` would have it, without timing anything."""
    session = Session(original)
    evaluation = Evaluation(
        session, load_dataset(str(data), session.inputs), 1, model=io.load(original)
    )
    scores = [evaluation.score(Session(candidate)) for candidate in candidates]
    return [
        {
            name: (each.kind.value, each.drop)
            for each in score.outputs
            if each.kind is not None
            for name in each.name.split(" + ")
        }
        for score in scores
    ]


def answers(model: Path, data: Path) -> Outputs:
    """What onnxruntime gives for each sample alone."""
    options = ort.SessionOptions()
    # One declares another rank than it has, and says so at every run.
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    feeds = feeds_of(data)
    return [dict(zip(names, session.run(None, feed), strict=True)) for feed in feeds]


def feeds_of(data: Path) -> list[dict[str, np.ndarray]]:
    """The inputs of each sample, from a .npz file or a folder of `test_data_set_*`."""
    if data.is_dir():
        folders = sorted(data.iterdir(), key=lambda each: int(each.name.rpartition("_")[2]))
        return [_run_of(folder) for folder in folders]
    with np.load(data, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(next(iter(arrays.values())))
    return [{name: array[row : row + 1] for name, array in arrays.items()} for row in range(count)]


def _run_of(folder: Path) -> dict[str, np.ndarray]:
    tensors = [onnx.load_tensor(file) for file in sorted(folder.glob("input_*.pb"))]
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}


def stacked(outputs: Outputs, name: str, axis: int = 0) -> np.ndarray:
    """One output of all samples, joined along an axis."""
    return np.concatenate([each[name] for each in outputs], axis=axis)
