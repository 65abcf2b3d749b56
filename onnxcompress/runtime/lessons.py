"""Lessons for training: samples, and what a teacher run by onnxruntime makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from onnxcompress.data.batching import padded
from onnxcompress.data.dataset import Batch, Dataset
from onnxcompress.distillation.augmentation import (
    Augmentation,
    are_pictures,
    augment,
    fit,
    mirrored,
    why_unfit,
)
from onnxcompress.distillation.lessons import Lesson
from onnxcompress.errors import DataError
from onnxcompress.ir.model import Model
from onnxcompress.runtime.teacher import Teacher

_LOOKED_AT = 64
"""Samples that tell how to vary all."""

_KEPT_BYTES = 256 << 20
"""What the teacher said may take; more is asked for again in every epoch."""


class TaughtSamples:
    """See `distillation.lessons.Lessons`.

    Args:
        data: the samples.
        teacher: None if nobody teaches.
        tensors: the teacher's tensors that are wanted as targets.
        inputs: for each input of the student the teacher's tensor that feeds it; empty where the
            data do.
        augmentation: how samples are varied where that is asked for.
        both_sides: see `Teacher`.
    """

    def __init__(
        self,
        data: Dataset,
        teacher: Model | None,
        tensors: Sequence[str],
        inputs: Mapping[str, str],
        augmentation: Augmentation = Augmentation.NONE,
        *,
        both_sides: bool = False,
    ):
        self._data = data
        self._targets = tuple(tensors)
        self._inputs = dict(inputs)
        self._augmentation = augmentation
        self._kept: dict[str, np.ndarray] = {}
        self._known = np.zeros(len(data), bool)
        self._keeps = True
        self._has_rows = False
        self._teacher: Teacher | None = None
        if teacher is not None:
            wanted = tuple(dict.fromkeys((*tensors, *inputs.values())))
            self._teacher = Teacher(teacher, wanted, both_sides=both_sides)

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._data)

    def fingerprint(self) -> str:
        """What tells these lessons from others: the data, the teacher and what it is asked."""
        teacher = "" if self._teacher is None else self._teacher.fingerprint()
        asked = self._targets, sorted(self._inputs.items()), self._augmentation.value
        told = repr((self._data.fingerprint(), teacher, asked))
        return hashlib.sha256(told.encode()).hexdigest()

    def batch_size(self, asked: int) -> int:
        """See `Lessons.batch_size`."""
        return self._data.batch_size(asked)

    def batches(
        self, order: Sequence[int] | np.ndarray, size: int, vary: Sequence[int] | None = None
    ) -> Iterator[Lesson]:
        """See `Lessons.batches`.

        Raises:
            DataError: the inputs cannot be varied so, or mirrored.
        """
        order = np.asarray(order, np.int64)
        done = 0
        for batch in self._data.take(order).batches(size):
            samples = order[done : done + batch.count]
            done += batch.count
            feeds: Mapping[str, np.ndarray] = batch.feeds
            if vary is None or self.augmentation is Augmentation.NONE:
                told = self._told(batch, samples)
            else:
                feeds = self._varied(feeds, [*vary, int(samples[0])])
                told = self._asked(feeds)
            feeds = {name: told[tensor] for name, tensor in self._inputs.items()} or feeds
            targets = {name: told[name] for name in self._targets}
            yield Lesson(
                feeds=feeds,
                targets=targets,
                labels=batch.labels,
                count=batch.count,
                filled=_is_filled(batch),
            )

    def _varied(
        self, feeds: Mapping[str, np.ndarray], seed: Sequence[int]
    ) -> Mapping[str, np.ndarray]:
        unfit = why_unfit(self.augmentation, feeds)
        if unfit is not None:
            raise DataError(f"augment={self.augmentation.value}: {unfit}")
        return augment(self.augmentation, feeds, np.random.default_rng(seed))

    @cached_property
    def augmentation(self) -> Augmentation:
        """How samples are varied; where it is asked for no way, as it suits the first of them."""
        if self._augmentation is not Augmentation.AUTO:
            return self._augmentation
        feeds = next(self._data.batches(_LOOKED_AT)).feeds
        if self._teacher is None or not are_pictures(feeds):
            return Augmentation.NONE
        said, other = self._asked(feeds), self._asked(mirrored(feeds))
        return fit(*({name: each[name] for name in self._targets} for each in (said, other)))

    def _asked(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The teacher's tensors for a batch, computed."""
        return {} if self._teacher is None else self._teacher.says(feeds)

    def _told(self, batch: Batch, samples: np.ndarray) -> Mapping[str, np.ndarray]:
        """The teacher's tensors for a batch as it is in the data, computed or remembered."""
        if self._kept and self._known[samples].all():
            told = {name: kept[samples] for name, kept in self._kept.items()}
            return padded(told, batch.count, _rows(batch)) if _is_filled(batch) else told
        values = self._asked(batch.feeds)
        if values and self._keeps:
            self._keep(values, batch, samples)
        return values

    def _keep(self, values: Mapping[str, np.ndarray], batch: Batch, samples: np.ndarray) -> None:
        """Keeps what the teacher said, if that is little and has a row for each sample."""
        count = _rows(batch)
        rows = all(each.ndim and len(each) == count for each in values.values())
        if rows and count > 1 and not self._has_rows:
            rows = self._has_rows = self._follows_order(values, batch.feeds)
        if rows and not self._kept:
            size = sum(each.nbytes // count for each in values.values()) * len(self._data)
            if size <= _KEPT_BYTES:
                self._kept = {
                    name: np.empty((len(self._data), *each.shape[1:]), each.dtype)
                    for name, each in values.items()
                }
        fits = rows and all(
            name in self._kept and self._kept[name].shape[1:] == each.shape[1:]
            for name, each in values.items()
        )
        if not fits:
            self._keeps, self._kept = False, {}
            return
        for name, each in values.items():
            self._kept[name][samples] = each[: batch.count]
        self._known[samples] = True

    def _follows_order(
        self, values: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]
    ) -> bool:
        """Whether the first axis counts samples, and has not just as many numbers by chance."""
        turned = self._asked(
            {name: each[::-1] if each.ndim else each for name, each in feeds.items()}
        )
        limits = {name: 1e-3 * np.abs(each).max(initial=0) for name, each in values.items()}
        return all(
            turned[name].shape == each.shape
            and np.allclose(turned[name][::-1], each, rtol=1e-3, atol=limits[name])
            for name, each in values.items()
        )


def _rows(batch: Batch) -> int:
    """Samples that a batch feeds, copies counted."""
    if batch.whole:
        return batch.count
    return max((len(each) for each in batch.feeds.values() if each.ndim), default=batch.count)


def _is_filled(batch: Batch) -> bool:
    """Whether a batch holds copies of its last sample."""
    return _rows(batch) > batch.count
