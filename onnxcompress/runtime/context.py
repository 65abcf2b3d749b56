"""What the pass manager hands to passes: measured facts, computed once and shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.synthetic import synthetic_dataset
from onnxcompress.errors import DataError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model, Node
from onnxcompress.pass_base import TensorType
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.runtime.calibration import CalibrationTable, Progress, fingerprint, gather, watch
from onnxcompress.runtime.evaluate import evaluate
from onnxcompress.runtime.session import Session, SessionSettings
from onnxcompress.target import Target, detect_target


class RuntimeContext:
    """The services of `pass_base.Context`, by onnxruntime.

    Args:
        data: what to calibrate on; None lets passes that need no data run, on made-up samples.
        target: what the result is for; this machine by default.
        calibration: a file to read histograms from if it fits, and to write them to.
        progress: told how calibration gets on.
    """

    def __init__(
        self,
        data: Dataset | None = None,
        *,
        target: Target | None = None,
        calibration: Path | None = None,
        progress: Progress | None = None,
    ):
        self.data = data
        self.target = target or detect_target()
        self._calibration = calibration
        self._progress = progress
        self._types: dict[str, Mapping[str, TensorType]] = {}
        self._tables: dict[str, CalibrationTable] = {}

    def sample(self, model: Model) -> Dataset:
        """One sample for this model: the first of the data, or a made-up one."""
        if self.data is not None:
            return self.data.take([0])
        session = Session(io.to_bytes(model), SessionSettings(optimize=False, prepack=False))
        return synthetic_dataset(session.inputs, 1, seed=0)

    def evaluate(self, model: Model, nodes: Sequence[Node]) -> Mapping[str, np.ndarray]:
        """See `pass_base.Context.evaluate`."""
        return evaluate(model, nodes) if nodes else {}

    def types(self, model: Model) -> Mapping[str, TensorType]:
        """See `pass_base.Context.types`."""
        key = fingerprint(model)
        if key not in self._types:
            tensors = [
                tensor.name for node in model.graph.nodes for tensor in node.outputs if tensor.name
            ]
            batch = next(self.sample(model).batches(1))
            values = {**watch(model, tensors).run(batch.feeds), **batch.feeds}
            self._types[key] = {
                name: TensorType(value.dtype, value.shape)
                for name, value in values.items()
                if isinstance(value, np.ndarray)
            }
        return self._types[key]

    def ranges(
        self, model: Model, tensors: Sequence[str], observer: Observer
    ) -> Mapping[str, Range]:
        """See `pass_base.Context.ranges`."""
        if self.data is None:
            raise DataError(
                "activation ranges need calibration data; pass --data, or use a pass that needs "
                "none, such as quantize-dynamic"
            )
        table = self._table(model)
        missing = [name for name in dict.fromkeys(tensors) if name not in table.histograms]
        if missing:
            types = self.types(model)
            size = sum(int(np.prod(types[name].shape)) * 4 for name in missing)
            table.histograms |= gather(
                model, missing, self.data, bytes_per_sample=size, progress=self._progress
            )
            if self._calibration:
                table.save(self._calibration)
        return {name: observer.range(table.histograms[name]) for name in tensors}

    def _table(self, model: Model) -> CalibrationTable:
        assert self.data is not None
        key = fingerprint(model)
        if key not in self._tables:
            table = CalibrationTable(key, self.data.fingerprint())
            if self._calibration and self._calibration.exists():
                stored = CalibrationTable.load(self._calibration)
                if (stored.model, stored.data) == (table.model, table.data):
                    table = stored
            self._tables[key] = table
        return self._tables[key]
