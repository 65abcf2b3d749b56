"""Models that answer what a test says, so that any mistake can be made on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from onnxcompress.data.loading import dataset_of
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.question import Judged
from onnxcompress.judging.score import Score
from onnxcompress.measure.metrics import resolve_metric
from onnxcompress.runtime.session import Session, TensorSignature

Answers = Mapping[str, Any]
"""For each output, an array whose first axis is samples, or a list of what each sample gives."""


class Scripted:
    """Stands in for a session: its one input is the number of the sample.

    Args:
        answers: what it says.
        declared: shapes of outputs, where they are not to be told from the answers.
        reads: the dtype of its input; whole numbers are taken for text.
    """

    def __init__(
        self,
        answers: Answers,
        declared: Mapping[str, tuple[int | str | None, ...]] | None = None,
        reads: type[np.generic] = np.float32,
    ) -> None:
        self._answers = answers
        self.inputs = (TensorSignature(name="sample", dtype=np.dtype(reads), shape=("batch", 1)),)
        self.outputs = tuple(
            TensorSignature(
                name=name,
                dtype=_dtype(answer),
                shape=(declared or {}).get(name, _shape(answer)),
            )
            for name, answer in answers.items()
        )

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The answers to the samples that are fed."""
        at = feeds["sample"].ravel().astype(int)
        found = {}
        for name in outputs or list(self._answers):
            answer = self._answers[name]
            found[name] = answer[at] if isinstance(answer, np.ndarray) else answer[int(at[0])]
        return found


def _dtype(answer: Any) -> np.dtype:
    first = answer if isinstance(answer, np.ndarray) else np.asarray(answer[0])
    return first.dtype


def _shape(answer: Any) -> tuple[int | str | None, ...]:
    if isinstance(answer, np.ndarray):
        return ("batch", *answer.shape[1:])
    return tuple(f"d{axis}" for axis in range(np.asarray(answer[0]).ndim))


def parted(judged: str) -> tuple[str, str, str]:
    """A `--judge` of the command line, cut at the equals sign."""
    return judged.partition("=")


def judge(
    original: Scripted,
    candidate: Answers,
    labels: Mapping[str, np.ndarray] | None = None,
    *,
    metric: str | None = None,
    judged: Sequence[str] = (),
) -> Score:
    """The score of other answers beside the original's."""
    count = len(next(iter(original._answers.values())))
    kind = original.inputs[0].dtype
    samples = {"sample": np.arange(count).reshape(-1, 1).astype(kind)}
    data = dataset_of({**samples, **(labels or {})}, original.inputs)
    evaluation = Evaluation(
        cast(Session, original),
        data,
        1,
        resolve_metric(metric) if metric else None,
        judged=[Judged.of(name, how or None) for name, _, how in map(parted, judged)],
    )
    return evaluation.score(cast(Session, Scripted(candidate)))
