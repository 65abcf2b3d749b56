"""Made-up samples that a model really runs on."""

from __future__ import annotations

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.synthetic import synthetic_dataset
from onnxcompress.errors import DataError, SessionError
from onnxcompress.runtime.session import Session

_LENGTHS = (16, 32, 64, 128, 224, 256, 512, 1024)
"""What is tried for axes whose length the model leaves open: short ones do not survive the pooling
and padding of some models."""


def made_up_samples(session: Session, samples: int, seed: int) -> Dataset:
    """Random samples from the model's inputs, of the shortest length that runs.

    Args:
        session: the model.
        samples: how many to make.
        seed: of the random numbers.

    Raises:
        DataError: none of the lengths runs; gives onnxruntime's reason for the last.
    """
    open_axes = any(
        not isinstance(axis, int) for tensor in session.inputs for axis in tensor.shape[1:]
    )
    fault: SessionError | None = None
    for length in _LENGTHS if open_axes else _LENGTHS[:1]:
        made_up = synthetic_dataset(session.inputs, samples, seed, size=length)
        try:
            session.run(next(made_up.batches(1)).feeds)
        except SessionError as refusal:
            fault = refusal
        else:
            return made_up
    raise DataError(f"no made-up input runs, so real data is needed (--data): {fault}") from fault
