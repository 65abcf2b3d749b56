"""What a student learns from, batch by batch; who prepares it need not know torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A batch.

    Attributes:
        feeds: the student's inputs by name.
        targets: the teacher's tensors by name.
        labels: of the samples, or None.
        count: samples that are real.
        filled: the batch was filled up with copies of its last sample, see `data.dataset.Batch`:
            rows from `count` on count for nothing.
    """

    feeds: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    labels: np.ndarray | None
    count: int
    filled: bool = False


class Lessons(Protocol):
    """All samples there are to learn from."""

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def batch_size(self, asked: int) -> int:
        """How many samples a batch has where so many are asked for; a model may fix it."""
        ...

    def batches(
        self, order: Sequence[int] | np.ndarray, size: int, vary: Sequence[int] | None = None
    ) -> Iterator[Lesson]:
        """Some of the samples, in this order, `size` at a time.

        Args:
            order: numbers of samples.
            size: samples in a batch.
            vary: the seed with which they are augmented, if these lessons do; None never does.
        """
        ...

    def fingerprint(self) -> str:
        """What tells these lessons from others."""
        ...
