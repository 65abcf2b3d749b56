"""The judge of a real model, and candidates whose answers come from a table, right or wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from onnxcompress.data.loading import load_dataset
from onnxcompress.ir import io
from onnxcompress.judging.evaluation import Evaluation
from onnxcompress.judging.score import Score
from onnxcompress.runtime.session import Session
from tests.verdict.support import Outputs


class Judge:
    """The judge of one real model, which ran once; see `score`.

    Args:
        original: the model.
        answers: what it says to each sample.
        data: the samples.
    """

    def __init__(self, original: Path, answers: Outputs, data: Path) -> None:
        session = Session(original)
        self.answers = answers
        self._signature = session
        self._data = load_dataset(str(data), session.inputs)
        self._places = {
            _digest(batch.feeds): place for place, batch in enumerate(self._data.batches(1))
        }
        self._evaluation = Evaluation(
            self._replayed(answers), self._data, 1, model=io.load(original)
        )

    def score(self, answers: Outputs) -> Score:
        """What `bench` would say of a candidate that gives these answers to the samples."""
        return self._evaluation.score(self._replayed(answers))

    def _replayed(self, answers: Outputs) -> Session:
        return cast(Session, _Replayed(self._signature, self._places, answers))


class _Replayed:
    """Stands in for a session: what it is fed says which answer is wanted."""

    def __init__(self, like: Session, places: Mapping[bytes, int], answers: Outputs) -> None:
        self.inputs, self.outputs = like.inputs, like.outputs
        self._places, self._answers = places, answers

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The answer to a sample."""
        answer = self._answers[self._places[_digest(feeds)]]
        return {name: _as_array(answer[name]) for name in outputs or answer}


def _digest(feeds: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(feeds):
        digest.update(np.ascontiguousarray(feeds[name]).tobytes())
    return digest.digest()


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    # Maps, one a row, come as a list.
    array = np.empty(len(value), dtype=object)
    array[:] = value
    return array
