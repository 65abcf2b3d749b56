"""What a model gives for each batch, its first axis always samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from onnxcompress.data.memory import available_bytes
from onnxcompress.errors import DataError
from onnxcompress.measure.objects import rows_of
from onnxcompress.measure.predictions import BatchOutput, Output, Runnable, batch_outputs

if TYPE_CHECKING:
    from onnxcompress.data.dataset import Dataset

LOOKED: Final = 64
"""Samples that the kinds of outputs are told from."""

_LOOKED_BYTES: Final = 1 << 26
"""Or fewer, as soon as these take so much: statistics widen them several times."""

_ALWAYS_FREE: Final = 1 << 20
"""Bytes for which the system need not be asked, which takes longer than most batches."""


def chunks(
    session: Runnable,
    data: Dataset,
    batch_size: int,
    batch_first: Mapping[str, bool],
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Runs all samples.

    Args:
        session: the loaded model.
        data: the samples.
        batch_size: samples at once, where the model leaves the choice.
        batch_first: the outputs wanted, and whether the first axis of each is samples.

    Yields:
        How many samples a batch held, and for each output an array whose first axis is samples. An
        output that cannot be cut into samples is one sample for each batch; a sequence of tensors
        is one line of all that they hold.

    Raises:
        DataError: the data cannot be read.
        SessionError: onnxruntime cannot run a batch.
    """
    for batch, found in batch_outputs(session, data, batch_size, list(batch_first)):
        yield (
            batch.count,
            {name: _chunk(output, batch_first[name]) for name, output in found.items()},
        )


def look(
    session: Runnable, data: Dataset, batch_size: int, names: Sequence[str]
) -> tuple[dict[str, Output], dict[str, bool], int]:
    """What a model says on the first samples.

    Returns:
        For each output, an array whose first axis is samples, or a list of samples where they
        differ in shape; whether its first axis is samples in the model too; and how many samples
        were looked at.
    """
    seen: dict[str, list[BatchOutput]] = {name: [] for name in names}
    samples = taken = 0
    for batch, found in batch_outputs(session, data, batch_size, list(names)):
        samples += batch.count
        for name, output in found.items():
            seen[name].append(output)
            taken += output.array.nbytes
        if samples >= LOOKED or taken > _LOOKED_BYTES:
            break
    batch_first = {
        name: all(
            (output.is_cut or _is_batch_of_one(output)) and not _is_sequence(output.array)
            for output in outputs
        )
        for name, outputs in seen.items()
    }
    looked: dict[str, Output] = {}
    for name, outputs in seen.items():
        parts = [_chunk(output, batch_first[name]) for output in outputs]
        alike = len({(part.shape[1:], part.dtype) for part in parts}) == 1
        looked[name] = (
            np.concatenate(parts) if alike else [row for part in parts for row in rows_of(part)]
        )
    return looked, batch_first, samples


def _is_batch_of_one(output: BatchOutput) -> bool:
    """Whether a feed that is one sample as it stands gave a batch of one."""
    return output.array.ndim > 0 and len(output.array) == 1


def _chunk(output: BatchOutput, batch_first: bool) -> np.ndarray:
    array = output.array
    if _is_sequence(array):
        return np.concatenate([tensor.ravel() for tensor in array])[None]
    if batch_first and array.ndim:
        return array
    return array[None]


def _is_sequence(array: np.ndarray) -> bool:
    """Whether an output is a sequence of tensors."""
    if array.dtype != object or array.ndim != 1 or not len(array):
        return False
    return all(isinstance(each, np.ndarray) for each in array)


def require_memory(kept: int, counted: int, samples: int) -> None:
    """Checks that what has to be kept of the original's outputs fits.

    Args:
        kept: bytes that were kept so far.
        counted: for so many samples.
        samples: how many there are.

    Raises:
        DataError: it does not fit.
    """
    needed = kept / counted * samples
    if needed <= _ALWAYS_FREE:
        return
    available = available_bytes()
    if needed > available:
        raise DataError(
            f"the outputs for {samples} samples take {needed / 2**30:.1f} GiB and "
            f"{available / 2**30:.1f} GiB of memory are free; give fewer samples, labels with a "
            "metric that compares with them, such as top1 or perplexity, or fewer outputs (--judge)"
        )
