"""Distributions of tensors over data: one pass, in batches, in bounded memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import onnx

from onnxcompress.data.dataset import Dataset
from onnxcompress.errors import DataError
from onnxcompress.files import written_whole
from onnxcompress.ir import elements
from onnxcompress.ir.clone import clone
from onnxcompress.ir.model import Constant, Model, Variable
from onnxcompress.ir.to_proto import export_model, store_inside
from onnxcompress.quantization.histogram import Histogram
from onnxcompress.runtime.loading import session_of
from onnxcompress.runtime.session import Session, SessionSettings

_DAMAGED = (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile, zlib.error)

BATCH_BYTES = 48 << 20
"""Bytes of watched tensors that one batch may produce; a single sample may exceed it."""

Progress = Callable[[int, int], None]
"""Called with samples done and samples in all."""


@dataclass
class CalibrationTable:
    """Histograms by tensor name, for one model and one data set.

    Attributes:
        model: fingerprint of the model the tensors belong to.
        data: fingerprint of the data.
        histograms: one for each tensor watched so far.
        not_finite: those of them that hold NaN or infinite values, which have no range.
    """

    model: str
    data: str
    histograms: dict[str, Histogram] = field(default_factory=dict)
    not_finite: set[str] = field(default_factory=set)

    def save(self, path: Path) -> None:
        """Writes the table as an .npz without pickled objects.

        Raises:
            OutputError: the file cannot be written.
        """
        arrays: dict[str, np.ndarray] = {
            "model": np.array(self.model),
            "data": np.array(self.data),
            "tensors": np.array(list(self.histograms), dtype=np.str_),
            "not_finite": np.array(sorted(self.not_finite), dtype=np.str_),
        }
        for index, histogram in enumerate(self.histograms.values()):
            arrays[f"bins_{index}"] = np.array([histogram.exponent, histogram.first])
            arrays[f"range_{index}"] = np.array([histogram.minimum, histogram.maximum])
            arrays[f"counts_{index}"] = histogram.counts
        with written_whole(path) as (file,):
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> CalibrationTable:
        """Reads what `save` wrote.

        Raises:
            DataError: the file is missing or is no calibration table.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                table = cls(str(arrays["model"]), str(arrays["data"]))
                if "not_finite" in arrays:  # older tables have none
                    table.not_finite = {str(name) for name in arrays["not_finite"]}
                for index, name in enumerate(arrays["tensors"]):
                    exponent, first = (int(value) for value in arrays[f"bins_{index}"])
                    low, high = (float(value) for value in arrays[f"range_{index}"])
                    counts = arrays[f"counts_{index}"].astype(np.int64)
                    table.histograms[str(name)] = Histogram(exponent, first, counts, low, high)
        except _DAMAGED as fault:
            raise DataError(f"{path}: not a calibration table: {fault}") from fault
        return table


def fingerprint(model: Model) -> str:
    """SHA-256 of what the model computes: its nodes, weights, opsets and functions."""
    digest = hashlib.sha256()

    def digested(constant: Constant) -> onnx.TensorProto:
        if constant.dtype.kind == "O":
            return store_inside(constant)
        digest.update(np.ascontiguousarray(constant.values).reshape(-1).view(np.uint8).data)
        onnx_type = elements.type_of(constant.dtype)
        return onnx.TensorProto(name=constant.name, dims=constant.shape, data_type=onnx_type)

    proto = export_model(model, digested)
    proto.ClearField("metadata_props")
    digest.update(proto.SerializeToString(deterministic=True))
    return digest.hexdigest()


def watch(model: Model, tensors: Sequence[str]) -> Session:
    """A session that also returns the named tensors of the main graph, whatever their type."""
    watched = clone(model)
    present = {output.name for output in watched.graph.outputs}
    watched.graph.outputs += [Variable(name) for name in tensors if name not in present]
    return session_of(watched, SessionSettings(prepack=False))


def stream(
    model: Model,
    tensors: Sequence[str],
    data: Dataset,
    *,
    bytes_per_sample: int,
    progress: Progress | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Runs the data through the model once and yields the named tensors, batch by batch.

    Args:
        model: what to run.
        tensors: tensors of the main graph, its inputs among them.
        data: batches of any shapes the model takes.
        bytes_per_sample: what the tensors take for one sample; sets the batch size.
        progress: told after each batch.

    Yields:
        Arrays by name; whoever takes one out and drops it frees its memory.
    """
    inputs = {tensor.name for tensor in model.graph.inputs}
    computed = [name for name in tensors if name not in inputs]
    session = watch(model, computed) if computed else None
    done = 0
    for batch in data.batches(max(1, BATCH_BYTES // max(bytes_per_sample, 1))):
        values = session.run(batch.feeds, computed) if session else {}
        for name in inputs.intersection(tensors):  # an input that is not fed has its stored value
            default = model.graph.defaults.get(name)
            values[name] = (
                default.values if name not in batch.feeds and default else batch.feeds[name]
            )
        done += batch.count
        yield values
        values.clear()  # a batch must not outlive its turn beside the next one's
        if progress:
            progress(done, len(data))


def gather(tensors: Sequence[str], values: Iterable[dict[str, np.ndarray]]) -> dict[str, Histogram]:
    """Counts the values of each named tensor.

    Args:
        tensors: float tensors.
        values: batches as `stream` yields them.

    Returns:
        Histograms of the tensors that hold neither NaN nor infinite values anywhere.
    """
    histograms = {name: Histogram() for name in tensors}
    for batch in values:
        for name in list(histograms):
            try:
                histograms[name].add(batch.pop(name))
            except DataError:
                del histograms[name]
    return histograms
