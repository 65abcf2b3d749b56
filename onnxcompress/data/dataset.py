"""A dataset: samples of many parts, of which one at a time is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from onnxcompress.data.batching import Rows, ShapeKey, joined, padded, shape_key, take_rows
from onnxcompress.data.casting import Kind, is_float, kind_of
from onnxcompress.data.checks import batch_size, check_finite, finite_rows, is_explicit_label
from onnxcompress.data.roles import roles_of
from onnxcompress.data.splitting import stratified_indices
from onnxcompress.errors import DataError

if TYPE_CHECKING:
    from onnxcompress.data.parts import Part
    from onnxcompress.runtime.session import TensorSignature

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is fed at once.

    Attributes:
        feeds: an array for every input.
        labels: of the real samples, None where the dataset has none.
        count: how many samples are real. Where a model wants a fixed number, the last batch is
            filled up with copies of its last sample: keep `output[:count]` of a batch-first output.
        whole: the feed is one sample as it stands, so outputs must not be cut along any axis.
    """

    feeds: dict[str, np.ndarray]
    labels: np.ndarray | None
    count: int
    whole: bool = False


class _Store:
    """The parts, the last one read being kept."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.offsets = np.cumsum([0, *(part.count for part in parts)])
        self._read: tuple[int, dict[str, np.ndarray]] | None = None
        self._read_fields: dict[str, tuple[int, np.ndarray]] = {}

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        if self._read is None or self._read[0] != index:
            self._read = None  # two parts must not be in memory at once
            self._read = index, self.parts[index].arrays()
        return self._read[1]

    def field(self, index: int, name: str) -> np.ndarray:
        if name not in self._read_fields or self._read_fields[name][0] != index:
            self._read_fields.pop(name, None)
            self._read_fields[name] = index, self.parts[index].field(name)
        return self._read_fields[name][1]


class Dataset:
    """Samples for a model, in an order; views share the parts and copy nothing.

    Args:
        parts: what the samples are read from; all with labels or all without.
        signature: the model's inputs.
        group_by: the array whose values tell which samples belong together, if any.

    Raises:
        DataError: there are no samples, only some parts have labels or groups, or samples cannot be
            cut from arrays because the inputs disagree about the batch size.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        signature: Sequence[TensorSignature],
        *,
        group_by: str | None = None,
    ) -> None:
        if not parts:
            raise DataError("the data hold no samples")
        self._roles = roles_of(parts, signature, group_by)
        self._store = _Store(parts)
        self._indices: Indices = np.arange(self._store.offsets[-1], dtype=np.int64)
        self._fixed = None if all(part.whole for part in parts) else batch_size(signature)

    def __len__(self) -> int:
        """The number of samples; a test set folder is one."""
        return len(self._indices)

    @property
    def has_labels(self) -> bool:
        """Whether `labels` gives an array."""
        return self._roles.labels is not None

    @property
    def labels_name(self) -> str | None:
        """The array that `labels` are read from: `labels`, or what stands in for it."""
        return self._roles.labels

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of all samples in the dataset's order, read without reading the inputs.

        They may be numbers, truth values or text, of any shape for one sample.

        Raises:
            DataError: labels of two parts differ in shape or kind, or a float label is not finite.
        """
        return None if self._roles.labels is None else self._all(self._roles.labels)

    @property
    def labelled_outputs(self) -> tuple[str, ...]:
        """Outputs of the model whose labels the data name, as `labels.NAME`."""
        return tuple(self._roles.of_output)

    def labels_of(self, output: str) -> np.ndarray | None:
        """Labels that the data name for one output, as `labels.NAME`; None without any.

        Raises:
            DataError: see `labels`.
        """
        name = self._roles.of_output.get(output)
        return None if name is None else self._all(name)

    @property
    def groups(self) -> np.ndarray | None:
        """What tells which samples belong together, one value for each; None if not asked for.

        Raises:
            DataError: they are numbers in one part and text in another.
        """
        if self._roles.groups is None:
            return None
        return self._all(self._roles.groups)

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of arrays that are neither inputs nor labels nor groups."""
        return self._roles.unused

    def _all(self, name: str) -> np.ndarray:
        """An array that comes with the samples, for all of them."""
        chunks = [self._field(name, rows) for rows in self._runs()]
        shapes = {chunk.shape[1:] for chunk in chunks}
        if len(shapes) > 1:
            told = " and ".join(str(shape) for shape in sorted(shapes, key=str))
            raise DataError(f"{name} of the parts differ in shape: {told} for one sample")
        if len({kind_of(chunk.dtype) is Kind.TEXT for chunk in chunks}) > 1:
            raise DataError(f"{name} are text in some parts of the data and numbers in others")
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)

    def batch_size(self, asked: int) -> int:
        """How many samples `batches` yields at once where so many are asked for."""
        if all(part.whole for part in self._store.parts):
            return 1
        return self._fixed or asked

    def batches(self, size: int) -> Iterator[Batch]:
        """Yields batches in the dataset's order.

        Samples of several parts share a batch where their shapes agree. A model with a fixed batch
        size gets that one instead of `size`, the last batch filled up.

        Args:
            size: samples in a batch, at least 1.

        Raises:
            DataError: a part cannot be read, or holds NaN or infinite values.
        """
        if size < 1:
            raise ValueError(f"a batch has at least one sample, not {size}")
        size = self._fixed or size
        pending: list[tuple[dict[str, np.ndarray], Rows]] = []
        pending_key: ShapeKey | None = None
        for run in self._runs():
            part = self._store.parts[run.part]
            if part.whole:
                if pending:
                    yield self._batch(pending, size)
                    pending = []
                feeds = self._feeds_of(run)
                yield Batch(feeds=feeds, labels=None, count=1, whole=True)
                continue
            key = shape_key(self._store.arrays(run.part))
            if pending and key != pending_key:
                yield self._batch(pending, size)
                pending = []
            pending_key = key
            begin = 0
            while begin < len(run):
                room = size - sum(len(rows) for _, rows in pending)
                rows = run[begin : begin + room]
                pending.append((self._feeds_of(rows), rows))
                begin += len(rows)
                if len(rows) == room:
                    yield self._batch(pending, size)
                    pending = []
        if pending:
            yield self._batch(pending, size)

    def one_by_one(self) -> Dataset:
        """A view whose batches are of one sample, whatever is asked for."""
        view = self.take(range(len(self)))
        view._fixed = 1
        return view

    def finite(self) -> tuple[Dataset, tuple[str, ...]]:
        """A view without the samples that hold NaN or infinite values, and what these are.

        Raises:
            DataError: no sample is left; names the first.
        """
        kept: list[Indices] = []
        left_out: list[str] = []
        begin = 0
        for run in self._runs():
            part = self._store.parts[run.part]
            labels = [] if part.whole else self._roles.all_labels
            arrays = take_rows(self._store.arrays(run.part), run.rows, part.whole)
            arrays |= {name: self._store.field(run.part, name)[run.rows] for name in labels}
            good, reasons = finite_rows(arrays, len(run), whole=part.whole)
            kept.append(begin + np.flatnonzero(good))
            left_out += [
                f"{part.origin}: {reason}"
                if part.whole
                else f"{part.origin}: sample {run.rows[at]}, {reason}"
                for at, reason in reasons
            ]
            begin += len(run)
        if not left_out:
            return self, ()
        indices = np.concatenate(kept)
        if not len(indices):
            raise DataError(f"every sample holds NaN or infinite values, as {left_out[0]}")
        return self.take(indices), tuple(left_out)

    def take(self, indices: Sequence[int] | Indices) -> Dataset:
        """A view of some samples, in the order given; sorted indices read each file only once.

        Raises:
            IndexError: an index is out of range.
            DataError: there are no indices.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if not len(chosen):
            raise DataError("no samples were chosen from the data")
        view = object.__new__(Dataset)
        view._store = self._store
        view._fixed = self._fixed
        view._roles = self._roles
        view._indices = self._indices[chosen]
        return view

    def split(self, calibration: int, seed: int) -> tuple[Dataset, Dataset]:
        """Splits into `calibration` samples and the rest, at random, keeping the dataset's order.

        Where each sample has one integer or text as label, both halves have about the same mix.

        Args:
            calibration: samples in the first dataset, at least 1 and fewer than all.
            seed: of the random choice.

        Raises:
            DataError: there are too few samples.
        """
        if not 1 <= calibration < len(self):
            raise DataError(
                f"cannot set {calibration} samples aside for calibration: the data hold "
                f"{len(self)} and at least one must be left to measure with"
            )
        rng = np.random.default_rng(seed)
        first = stratified_indices(len(self), calibration, self.strata(), rng)
        rest = np.setdiff1d(np.arange(len(self)), first, assume_unique=True)
        return self.take(first), self.take(rest)

    def strata(self) -> np.ndarray | None:
        """What a split keeps the mix of: labels, if each sample has one integer or text."""
        named = list(self._roles.of_output.values())
        name = self._roles.labels or (named[0] if len(named) == 1 else None)
        labels = None if name is None else self._all(name)
        if labels is None or labels.dtype.kind not in "iubUST":
            return None
        if labels.ndim == 0 or any(size != 1 for size in labels.shape[1:]):
            return None
        return labels.reshape(len(self))

    def digests(self) -> Iterator[bytes]:
        """What tells each sample's inputs from those of others, in the dataset's order."""
        for run in self._runs():
            arrays = self._store.arrays(run.part)
            rows = [run.rows] if self._whole(run) else np.split(run.rows, len(run.rows))
            for row in rows:
                digest = hashlib.sha256()
                for name, array in sorted(take_rows(arrays, row, self._whole(run)).items()):
                    plain = array.astype(str) if array.dtype == object else array
                    digest.update(f"{name}\0{array.dtype}\0{plain.shape}\0".encode())
                    digest.update(np.ascontiguousarray(plain).tobytes())
                yield digest.digest()

    def fingerprint(self) -> str:
        """A sha256 (hex) over what is fed and all labels, read part by part; paths do not count."""
        digest = hashlib.sha256()
        for run in self._runs():
            arrays = dict(take_rows(self._store.arrays(run.part), run.rows, self._whole(run)))
            # No input can bear such names: those in ONNX are not empty and hold no NUL.
            if self._roles.labels is not None:
                arrays[""] = self._field(self._roles.labels, run)
            for output, name in self._roles.of_output.items():
                arrays[f"\0{output}"] = self._field(name, run)
            for name in sorted(arrays):
                array = arrays[name]
                plain = array.astype(str) if array.dtype == object else np.ascontiguousarray(array)
                digest.update(f"{name}\0{array.dtype}\0{plain.shape}\0".encode())
                digest.update(plain.tobytes())
        return digest.hexdigest()

    def _runs(self) -> Iterator[Rows]:
        """The samples in order, cut where the part changes."""
        part_of = np.searchsorted(self._store.offsets, self._indices, side="right") - 1
        cuts = np.flatnonzero(np.diff(part_of)) + 1
        for ids, parts in zip(np.split(self._indices, cuts), np.split(part_of, cuts), strict=True):
            part = int(parts[0])
            yield Rows(part=part, rows=ids - self._store.offsets[part])

    def _whole(self, run: Rows) -> bool:
        return self._store.parts[run.part].whole

    def _feeds_of(self, rows: Rows) -> dict[str, np.ndarray]:
        whole = self._whole(rows)
        feeds = take_rows(self._store.arrays(rows.part), rows.rows, whole)
        check_finite(feeds, None if whole else rows.rows, self._store.parts[rows.part].origin)
        return feeds

    def _field(self, name: str, rows: Rows) -> np.ndarray:
        chosen: np.ndarray = self._store.field(rows.part, name)[rows.rows]
        if name == self._roles.groups:
            return chosen.reshape(len(rows))
        if is_float(chosen.dtype) and not np.isfinite(chosen).all():
            origin = self._store.parts[rows.part].origin
            what = name if is_explicit_label(name, ()) else f"{name!r}, taken as labels,"
            raise DataError(f"{origin}: {what} hold NaN or infinite values")
        return chosen

    def _batch(self, pending: Sequence[tuple[Mapping[str, np.ndarray], Rows]], size: int) -> Batch:
        labels = None
        if self._roles.labels is not None:
            name = self._roles.labels
            labels = np.concatenate([self._field(name, rows) for _, rows in pending])
        count = sum(len(rows) for _, rows in pending)
        feeds = joined([feeds for feeds, _ in pending])
        if self._fixed is not None and count < size:
            feeds = padded(feeds, count, size)
        return Batch(feeds=feeds, labels=labels, count=count)
