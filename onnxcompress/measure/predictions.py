"""Runs a model over a dataset and keeps what it says, sample by sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from onnxcompress.data.memory import available_bytes
from onnxcompress.errors import DataError
from onnxcompress.measure.objects import in_one_array, is_sequence, rows_of
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
    progress: Advance | None = None,
) -> Predictions:
    """Runs all samples through a model; what was only padding is cut off again.

    Args:
        session: the loaded model.
        dataset: the samples.
        batch_size: samples at once, where the model leaves the choice.
        progress: told after each batch.

    Raises:
        DataError: the data cannot be read or hold NaN.
        SessionError: onnxruntime cannot run a batch.
    """
    chunks: dict[str, list[BatchOutput]] = defaultdict(list)
    samples = 0
    for batch, found in batch_outputs(session, dataset, batch_size):
        if not samples:
            _require_memory(found, batch, len(dataset))
        samples += batch.count
        for name, output in found.items():
            chunks[name].append(output)
        if progress is not None:
            progress(samples, len(dataset))
    return Predictions(
        outputs={name: _joined(found) for name, found in chunks.items()}, samples=samples
    )


@dataclass(frozen=True)
class BatchOutput:
    """One output for one batch.

    Attributes:
        array: without what was only padding; the tensors of a sequence side by side.
        is_cut: whether its first axis is samples.
    """

    array: np.ndarray
    is_cut: bool

    @staticmethod
    def of(array: np.ndarray, batch: Batch) -> BatchOutput:
        """Cuts the padding off where the first axis is as long as the batch that was fed."""
        fed = next((len(feed) for feed in batch.feeds.values() if feed.ndim), 1)
        if is_sequence(array):
            array, by_sample = in_one_array(array, fed)
        else:
            by_sample = bool(array.ndim) and len(array) == fed
        if batch.whole or not by_sample:
            return BatchOutput(array, False)
        # A copy lets go of what padding there was.
        return BatchOutput(array if batch.count == fed else array[: batch.count].copy(), True)


def batch_outputs(
    session: Runnable, dataset: Dataset, batch_size: int, outputs: Sequence[str] | None = None
) -> Iterator[tuple[Batch, dict[str, BatchOutput]]]:
    """Runs all samples, yielding each batch with what the model gave for it; see `predict`."""
    for batch in dataset.batches(batch_size):
        values = session.run(batch.feeds, outputs)
        yield batch, {name: BatchOutput.of(array, batch) for name, array in values.items()}


def _require_memory(found: Mapping[str, BatchOutput], batch: Batch, samples: int) -> None:
    """Checks, by the first batch, that the outputs of all samples can be kept.

    Raises:
        DataError: they cannot.
    """
    by_sample = sum(output.array.nbytes for output in found.values()) / batch.count
    needed, available = by_sample * samples, available_bytes()
    if needed > available:
        raise DataError(
            f"the outputs for {samples} samples take {needed / 2**30:.1f} GiB and "
            f"{available / 2**30:.1f} GiB of memory are free; give fewer samples, or labels with a "
            f"metric that compares with them, such as top1 or perplexity"
        )


def _joined(chunks: Sequence[BatchOutput]) -> Output:
    arrays = [chunk.array for chunk in chunks]
    if not all(chunk.is_cut for chunk in chunks):
        return arrays
    alike = len({(array.shape[1:], array.dtype) for array in arrays}) == 1
    if alike:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return [row for array in arrays for row in rows_of(array)]
