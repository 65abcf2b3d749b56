"""What a part of a model may ask for: the model's own services, for tensors that both have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onnxcompress.distillation.plan import GradientsOf, Trained, Training
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.pass_base import Context, PairedActivations, TensorType
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.target import Target


class PartContext:
    """See `pass_base.Context`; for a part as it was cut out, before it is changed.

    The data are samples of the whole model's inputs, so the whole model is what runs.

    Args:
        model: the whole model.
        context: its services.
    """

    def __init__(self, model: Model, context: Context):
        self._model = model
        self._context = context
        self.float_model: Model | None = None
        self.unpruned_model: Model | None = None
        self.original_model: Model | None = None

    @property
    def target(self) -> Target:
        """See `Context.target`."""
        return self._context.target

    def types(self, model: Model) -> Mapping[str, TensorType]:
        """See `Context.types`."""
        names = {tensor.name for tensor in model.graph.inputs}
        names |= {tensor.name for node in model.graph.nodes for tensor in node.outputs}
        known = self._context.types(self._model)
        return {name: each for name, each in known.items() if name in names}

    def activations(self, model: Model, tensors: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `Context.activations`."""
        del model
        return self._context.activations(self._model, tensors)

    def ranges(
        self, model: Model, tensors: Sequence[str], observer: Observer
    ) -> Mapping[str, Range]:
        """See `Context.ranges`."""
        del model
        return self._context.ranges(self._model, tensors, observer)

    def evaluate(self, model: Model, nodes: Sequence[Node]) -> Mapping[str, np.ndarray]:
        """See `Context.evaluate`."""
        return self._context.evaluate(model, nodes)

    def train(self, training: Training) -> Trained:
        """See `Context.train`."""
        return self._context.train(training)

    def gradients(
        self, model: Model, constants: Sequence[Constant], of: GradientsOf, seed: int = 0
    ) -> Iterator[Mapping[Constant, np.ndarray]]:
        """See `Context.gradients`; of a loss of the whole model."""
        del model
        originals = {constant.name: constant for constant in self._model.constants()}
        copies = {originals[constant.name]: constant for constant in constants}
        for found in self._context.gradients(self._model, list(copies), of, seed):
            yield {copies[constant]: values for constant, values in found.items()}

    def paired_activations(
        self, model: Model, other: Model, samples: int | None = None
    ) -> PairedActivations:
        """See `Context.paired_activations`."""
        return self._context.paired_activations(model, other, samples)

    def time_ratio(self, model: Model, other: Model) -> float:
        """See `Context.time_ratio`."""
        return self._context.time_ratio(model, other)
