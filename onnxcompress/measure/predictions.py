"""Runs a model over a dataset and keeps what it says, sample by sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from onnxcompress.errors import DataError
from onnxcompress.progress import Advance

if TYPE_CHECKING:
    from onnxcompress.data.dataset import Batch, Dataset

Output = np.ndarray | list[np.ndarray]


class Runnable(Protocol):
    """What is needed of a session."""

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs once; arrays by output name."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model gave for a dataset.

    Attributes:
        outputs: by name, in the model's order: an array whose first axis is samples; or, where
            samples differ in shape, a list of one array for each sample; or, for an output that
            cannot be cut into samples (its first axis is not the batch), a list of one array for
            each batch.
        samples: how many samples were fed.
    """

    outputs: Mapping[str, Output]
    samples: int

    def output(self, name: str) -> Output:
        """One output.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.outputs:
            known = ", ".join(repr(output) for output in self.outputs)
            raise DataError(f"the model has no output {name!r}; its outputs are {known}")
        return self.outputs[name]


def predict(
    session: Runnable,
    dataset: Dataset,
    batch_size: int,
    *,
    outputs: Sequence[str] | None = None,
    progress: Advance | None = None,
) -> Predictions:
    """Runs all samples through a model; what was only padding is cut off again.

    Args:
        session: the loaded model.
        dataset: the samples.
        batch_size: samples at once, where the model leaves the choice.
        outputs: names of the outputs to keep; None means all.
        progress: told after each batch.

    Raises:
        DataError: the data cannot be read or hold NaN.
        SessionError: onnxruntime cannot run a batch.
    """
    chunks: dict[str, list[_Chunk]] = defaultdict(list)
    samples = 0
    for batch in dataset.batches(batch_size):
        samples += batch.count
        for name, array in session.run(batch.feeds, outputs).items():
            chunks[name].append(_Chunk.of(array, batch))
        if progress is not None:
            progress(samples, len(dataset))
    return Predictions(
        outputs={name: _joined(found) for name, found in chunks.items()}, samples=samples
    )


@dataclass(frozen=True)
class _Chunk:
    array: np.ndarray
    is_cut: bool

    @staticmethod
    def of(array: np.ndarray, batch: Batch) -> _Chunk:
        fed = next((len(feed) for feed in batch.feeds.values() if feed.ndim), 1)
        if batch.whole or not array.ndim or len(array) != fed:
            return _Chunk(array, False)
        # A copy lets go of what padding there was.
        return _Chunk(array if batch.count == fed else array[: batch.count].copy(), True)


def _joined(chunks: Sequence[_Chunk]) -> Output:
    arrays = [chunk.array for chunk in chunks]
    if not all(chunk.is_cut for chunk in chunks):
        return arrays
    alike = len({(array.shape[1:], array.dtype) for array in arrays}) == 1
    if alike and arrays[0].dtype != object:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return [row for array in arrays for row in array]
