"""What the pass manager hands to passes: measured facts, computed once and shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path

import numpy as np

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.given_shapes import Shapes
from onnxcompress.distillation.plan import GradientsOf, Trained, Training
from onnxcompress.errors import DataError, PassError, SessionError
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.measure.latency import compare_latency
from onnxcompress.pass_base import Pass, TensorType
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.releases import Release
from onnxcompress.runtime import check
from onnxcompress.runtime.calibration import (
    BATCH_BYTES,
    CalibrationTable,
    Progress,
    fingerprint,
    gather,
    stream,
    watch,
)
from onnxcompress.runtime.evaluate import evaluate
from onnxcompress.runtime.fitting import calibrated_without, fitted_to
from onnxcompress.runtime.lessons import TaughtSamples
from onnxcompress.runtime.loading import session_of
from onnxcompress.runtime.made_up import make_up
from onnxcompress.runtime.paired import PairedRuns
from onnxcompress.runtime.session import SessionSettings
from onnxcompress.target import Target, detect_target

_TIMED_SECONDS = 3.0
"""Time given to each comparison of two models' times."""

NO_TORCH = "training and gradients need PyTorch: pip install 'onnxcompress[torch]'"
"""What is told where it is not installed."""

_GRADIENT_SAMPLES = 4
"""Samples whose gradients are taken together; sums over many would cancel out."""

MOST_CHOOSING = 500
"""Samples that judge a training, again and again while it goes on."""

_WATCHED_AT_ONCE = 1000
_WATCHED_GROWTH = 8
_WATCHED_BYTES = 128 << 20
"""Tensors whose types one run tells."""


class RuntimeContext:
    """The services of `pass_base.Context`, by onnxruntime.

    Args:
        data: what to calibrate on; None lets passes that need no data run, on made-up samples.
        target: what the result is for; this machine by default.
        calibration: a file to read histograms from if it fits, and to write them to.
        progress: told how calibration gets on.
        float_model: what a quantized model that is to be worked on was made from; the pass manager
            knows better where it quantized the model itself.
        unpruned_model: what a pruned model that is to be worked on was made from; likewise.
        training: what to train on; the calibration data by default.
        choosing: other samples, to choose by; `MOST_CHOOSING` of them judge a training.
        training_progress: called when a training begins; what it gives is told how it gets on.
        shapes: of inputs, where samples are made up; the others are guessed.
        release: the onnxruntime that results must load on; None for the installed one alone.
    """

    def __init__(
        self,
        data: Dataset | None = None,
        *,
        target: Target | None = None,
        calibration: Path | None = None,
        progress: Progress | None = None,
        float_model: Model | None = None,
        unpruned_model: Model | None = None,
        training: Dataset | None = None,
        choosing: Dataset | None = None,
        training_progress: Callable[[], Progress] | None = None,
        shapes: Shapes | None = None,
        release: Release | None = None,
    ):
        self.data = data
        self.release = release
        self.target = target or detect_target()
        self.float_model = float_model
        self.unpruned_model = unpruned_model
        self.original_model: Model | None = None
        self._training = training
        if choosing is not None and len(choosing) > MOST_CHOOSING:
            choosing, _ = choosing.split(MOST_CHOOSING, 0)
        self._choosing = choosing
        self._aside = np.empty(0, np.int64)
        self._training_progress = training_progress
        self._shapes = shapes or {}
        self._calibration = calibration
        self._progress = progress
        self._types: dict[str, Mapping[str, TensorType]] = {}
        self._tables: dict[str, CalibrationTable] = {}

    def with_float_model(self, model: Model) -> RuntimeContext:
        """This context, caches shared, for passes on what `model` was quantized to."""
        other = copy(self)
        other.float_model = model
        return other

    def with_original_model(self, model: Model) -> RuntimeContext:
        """This context, caches shared, for passes on what became of `model`."""
        other = copy(self)
        other.original_model = model
        return other

    def with_unpruned_model(self, model: Model) -> RuntimeContext:
        """This context, caches shared, for passes on what `model` was pruned to."""
        other = copy(self)
        other.unpruned_model = model
        return other

    def setting_aside(self, passes: Iterable[Pass]) -> RuntimeContext:
        """This context for passes some of which train.

        What one of them is judged by (`Pass.sets_aside`), none of them learns from.
        """
        training = self._training or self.data
        if training is None or len(training) < 2:
            return self
        others = self._choosing is not None
        chosen = [self._aside, *(each.sets_aside(len(training), others=others) for each in passes)]
        aside = np.unique(np.concatenate(chosen))
        if len(aside) in (len(self._aside), len(training)):
            return self
        other = copy(self)
        other._training, other._aside = training, aside
        if self.data is not None:
            other.data = calibrated_without(self.data, training, aside)
            if other.data is not self.data:
                other._tables = {}
        return other

    def telling(self, progress: Progress) -> RuntimeContext:
        """This context, caches shared, that tells somebody else how runs over the data get on."""
        other = copy(self)
        other._progress = progress
        return other

    def sample(self, model: Model) -> Dataset:
        """What one run of this model is fed: the first of the data, or something made up.

        One sample, or a whole batch where the model fixes its size: copies would show less.
        """
        firsts = {tensor.shape[0] for tensor in model.graph.inputs if tensor.shape}
        first = firsts.pop() if len(firsts) == 1 else 1
        count = first if isinstance(first, int) and first > 0 else 1
        if self.data is not None:
            return self.data.take(range(min(count, len(self.data))))
        session = session_of(model, SessionSettings(optimize=False, prepack=False))
        # A part of the model, or a student of one, has other inputs.
        inputs = {tensor.name for tensor in session.inputs}
        shapes = {name: shape for name, shape in self._shapes.items() if name in inputs}
        return make_up(session, count, seed=0, shapes=shapes).data

    def evaluate(self, model: Model, nodes: Sequence[Node]) -> Mapping[str, np.ndarray]:
        """See `pass_base.Context.evaluate`."""
        return evaluate(model, nodes) if nodes else {}

    def types(self, model: Model) -> Mapping[str, TensorType]:
        """See `pass_base.Context.types`."""
        if model.dense_bytes > check.MAX_RUN_BYTES:
            return {}
        key = fingerprint(model)
        if key not in self._types:
            self._types[key] = self._observed_types(model)
        return self._types[key]

    def _observed_types(self, model: Model) -> Mapping[str, TensorType]:
        outputs = [tensor for node in model.graph.nodes for tensor in node.outputs if tensor.name]
        names = [tensor.name for tensor in outputs]
        types: dict[str, TensorType] = {}
        try:
            feeds = next(self.sample(model).batches(1)).feeds
            # Whatever is watched is held to the end of a run: all of a decoder takes gigabytes. But
            # each run takes a session, so where tensors are small the next one watches more.
            start, count = 0, _WATCHED_AT_ONCE
            while start < len(names):
                values = watch(model, names[start : start + count]).run(feeds)
                types |= {name: TensorType(each.dtype, each.shape) for name, each in values.items()}
                start += count
                each_takes = sum(value.nbytes for value in values.values()) / len(values)
                affordable = int(_WATCHED_BYTES / max(each_takes, 1))
                count = max(_WATCHED_AT_ONCE, min(_WATCHED_GROWTH * count, affordable))
        except (SessionError, DataError):
            if self.data is not None:
                raise
            return {}
        types |= {name: TensorType(each.dtype, each.shape) for name, each in feeds.items()}
        # What is no tensor comes as an array of objects; strings do too, but the model says so.
        shapeless = {name for name, each in types.items() if each.dtype == object}
        shapeless -= {tensor.name for tensor in outputs if tensor.dtype == object}
        shapeless -= feeds.keys()
        return {name: each for name, each in types.items() if name not in shapeless}

    def ranges(
        self, model: Model, tensors: Sequence[str], observer: Observer
    ) -> Mapping[str, Range]:
        """See `pass_base.Context.ranges`."""
        table = self._table(model)
        known = table.histograms.keys() | table.not_finite
        missing = [name for name in dict.fromkeys(tensors) if name not in known]
        if missing:
            table.histograms |= gather(missing, self.activations(model, missing))
            table.not_finite |= set(missing) - table.histograms.keys()
            if self._calibration:
                table.save(self._calibration)
        finite = [name for name in tensors if name not in table.not_finite]
        return {name: observer.range(table.histograms[name]) for name in finite}

    def activations(self, model: Model, tensors: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `pass_base.Context.activations`."""
        data = self._calibration_data()
        types = self.types(model)
        size = sum(4 * math.prod(types[name].shape) for name in tensors if name in types)
        return stream(
            model,
            tensors,
            data,
            bytes_per_sample=size if types else BATCH_BYTES,  # unknown: one sample at a time
            progress=self._progress,
        )

    def train(self, training: Training) -> Trained:
        """See `pass_base.Context.train`."""
        data = self._training or self.data
        if data is None:
            raise DataError("training needs samples; pass --training, or --data")
        try:
            from onnxcompress.distillation.trainer import targets_of, train
        except ImportError as fault:
            raise PassError(NO_TORCH) from fault
        tensors = targets_of(training)
        lessons, judging = (
            TaughtSamples(
                each,
                training.teacher,
                tensors,
                training.inputs,
                training.augmentation,
                both_sides=training.mirror_teacher,
            )
            for each in (data, self._choosing or data)
        )
        progress = _unheard if self._training_progress is None else self._training_progress()
        return train(training, lessons, progress, judging if self._choosing else None)

    def gradients(
        self, model: Model, constants: Sequence[Constant], of: GradientsOf, seed: int = 0
    ) -> Iterator[Mapping[Constant, np.ndarray]]:
        """See `pass_base.Context.gradients`."""
        data = self._calibration_data()
        try:
            from onnxcompress.distillation.gradients import gradients
        except ImportError as fault:
            raise PassError(NO_TORCH) from fault
        lessons = TaughtSamples(data, None, (), {})
        return gradients(model, constants, lessons, of, batch_size=_GRADIENT_SAMPLES, seed=seed)

    def paired_activations(
        self, model: Model, other: Model, samples: int | None = None
    ) -> PairedRuns:
        """See `pass_base.Context.paired_activations`."""
        types = {**self.types(other), **self.types(model)}
        data = fitted_to(self._calibration_data(), self._training, self._aside, samples, types)
        return PairedRuns(model, other, data, types, self._progress)

    def time_ratio(self, model: Model, other: Model) -> float:
        """See `pass_base.Context.time_ratio`; on one thread."""
        sessions = [session_of(each, SessionSettings(threads=1)) for each in (other, model)]
        feeds = next(self.sample(other).batches(1)).feeds
        measured = compare_latency(sessions, feeds, budget_seconds=_TIMED_SECONDS)
        return 1 / measured.latencies[1].speedup

    def _calibration_data(self) -> Dataset:
        if self.data is None:
            raise DataError(
                "activations need calibration data; pass --data, or use a pass that needs none, "
                "such as quantize-dynamic"
            )
        return self.data

    def _table(self, model: Model) -> CalibrationTable:
        data = self._calibration_data()
        key = fingerprint(model)
        if key not in self._tables:
            table = CalibrationTable(key, data.fingerprint())
            if self._calibration and self._calibration.exists():
                stored = CalibrationTable.load(self._calibration)
                if (stored.model, stored.data) == (table.model, table.data):
                    table = stored
            self._tables[key] = table
        return self._tables[key]


def _unheard(done: int, total: int) -> None:
    del done, total
