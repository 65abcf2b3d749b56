"""Refitting one node: sums over the data, then new numbers for what it stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxcompress.channels.refit_targets import Residual, Target, scale_and_shift
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Node
from onnxcompress.pruning.least_squares import Fit, PairedMoments, choose_ridge
from onnxcompress.qdq.matrices import from_matrices, inputs_of, outputs_of, to_matrices

Batch = Mapping[str, np.ndarray]

_HELD_OUT_EVERY = 5
"""Each sample of so many judges the fit to the others."""


@dataclass(frozen=True)
class FitSettings:
    """How a node is refitted.

    Attributes:
        ridges: see `least_squares.choose_ridge`; `gain` likewise.
        positions: see `matrices.inputs_of`.
    """

    ridges: Sequence[float]
    gain: float
    positions: int


class LinearStep:
    """Refits the weight and bias of a Conv, Gemm or MatMul."""

    def __init__(self, target: Target, settings: FitSettings):
        self.target = target
        self.settings = settings
        self.node = target.node
        shape = to_matrices(self.node, target.weight.values).shape
        self._fitted, self._held_out = (PairedMoments.empty(*shape) for _ in range(2))
        self._samples = 0

    @staticmethod
    def size(target: Target) -> int:
        """Bytes that the sums for a target take."""
        shape: tuple[int, ...] = to_matrices(target.node, target.weight.values).shape
        groups, outputs, features = shape
        return 16 * groups * features * (features + outputs)

    @property
    def watched(self) -> list[str]:
        """Tensors of the pruned model that `add` needs."""
        return [tensor.name for tensor in self.target.reads]

    @property
    def wanted(self) -> str:
        """The tensor of the unpruned model that `add` needs."""
        residual = self.target.residual
        return self.target.wanted if residual is None else residual.total

    def add(self, pruned: Batch, unpruned: Batch) -> None:
        """Counts a batch of both models."""
        node, most = self.node, self.settings.positions
        source, outputs = pruned[node.inputs[0].name], unpruned[self.wanted]
        if (residual := self.target.residual) is not None:
            outputs = _summand(outputs, pruned[residual.shortcut.name], residual)
        samples = source.shape[0] if source.ndim > 1 else 1
        one, two = inputs_of(node, source, most), outputs_of(node, outputs, most)
        rows = [each.reshape(each.shape[0], samples, -1, each.shape[2]) for each in (one, two)]
        aside = (self._samples + np.arange(samples)) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
        for moments, chosen in ((self._fitted, ~aside), (self._held_out, aside)):
            if chosen.any():
                x, y = (each[:, chosen].reshape(len(each), -1, each.shape[-1]) for each in rows)
                moments.add(x, y)
        self._samples += samples

    def finish(self, edit: Editor) -> None:
        """Stores what was fitted, or says why not."""
        if not self._held_out.count:
            edit.skip(self.node, f"{self._samples} samples are too few: {_HELD_OUT_EVERY} at least")
            return
        weight, place = self.target.weight, self.target.bias
        current, start = self._maps()
        choice = choose_ridge(
            self._fitted,
            self._held_out,
            current,
            start,
            current.weights != 0,
            self.settings.ridges,
            intercept=place is not None,
            gain=self.settings.gain,
        )
        share = choice.after.sum() / max(choice.before.sum(), np.finfo(np.float64).tiny)
        if not np.isfinite(share):
            edit.skip(self.node, "its inputs or wanted outputs are not all finite")
            return
        if not choice.changed.any():
            edit.skip(
                self.node,
                f"no output would come {self.settings.gain:.0%} nearer to the unpruned model's on "
                "samples set aside",
            )
            return
        detail = (
            f"{weight.name} refitted: {choice.changed.sum()} of {choice.changed.size} outputs, "
            f"squared error on samples set aside x {share:.3g}"
        )
        stored = from_matrices(self.node, choice.fit.weights, weight.shape).astype(np.float32)
        edit.set_values(self.node, 1, np.ascontiguousarray(stored), detail)
        if place is not None:
            bias = place.to_store(choice.fit.bias.reshape(-1))
            edit.set_values(place.node, place.index, bias, f"{place.stored.name} refitted")

    def _maps(self) -> tuple[Fit, Fit]:
        """The node as it is, and as it was with the zeros that it has."""
        target, place = self.target, self.target.bias
        weights = to_matrices(self.node, target.weight.values).astype(np.float64)
        shape = weights.shape[:2]
        bias = before_bias = np.zeros(shape)
        if place is not None:
            bias = place.values(bias.size).reshape(shape)
            before_bias = place.unpruned_values(bias.size).reshape(shape)
        current = Fit(weights, bias)
        before = query.constant(target.reference, 1)
        if before is None or before.shape != target.weight.shape:
            return current, current
        unpruned = to_matrices(self.node, before.values).astype(np.float64)
        zero = ~weights.any(axis=2)
        start = Fit(np.where(weights != 0, unpruned, 0.0), np.where(zero, bias, before_bias))
        return current, start


@dataclass
class _ChannelSums:
    """Sums over one tensor, a number for each channel."""

    total: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    count: int = 0

    def add(self, values: np.ndarray) -> None:
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        values = values.astype(np.float64)
        self.total = self.total + values.sum(axis=axes)
        self.squares = self.squares + np.square(values).sum(axis=axes)
        self.count += values.size // values.shape[1]

    def mean_and_variance(self) -> tuple[np.ndarray, np.ndarray]:
        mean = np.asarray(self.total) / self.count
        return mean, np.maximum(np.asarray(self.squares) / self.count - np.square(mean), 0)


@dataclass
class NormStep:
    """Moves the statistics of a BatchNormalization as pruning moved those of its input.

    Attributes:
        node: of the pruned model.
        reference: of the unpruned one.
    """

    node: Node
    reference: Node
    _now: _ChannelSums = field(default_factory=_ChannelSums)
    _before: _ChannelSums = field(default_factory=_ChannelSums)

    @property
    def watched(self) -> list[str]:
        """Tensors of the pruned model that `add` needs."""
        return [self.node.inputs[0].name]

    @property
    def wanted(self) -> str:
        """The tensor of the unpruned model that `add` needs."""
        return self.reference.inputs[0].name

    def add(self, pruned: Batch, unpruned: Batch) -> None:
        """Counts a batch of both models."""
        self._now.add(pruned[self.watched[0]])
        self._before.add(unpruned[self.wanted])

    def finish(self, edit: Editor) -> None:
        """Stores the statistics, or says why not."""
        (mean, variance), (old_mean, old_variance) = (
            sums.mean_and_variance() for sums in (self._now, self._before)
        )
        stored = [query.constant(self.reference, index) for index in (3, 4)]
        trained_mean, trained_variance = (each.values.astype(np.float64) for each in stored if each)
        alive = (variance > 0) & (old_variance > 0)  # the others are constant: masked, say
        ratio = variance / np.where(alive, old_variance, 1)
        found = [
            np.where(alive, trained_mean + mean - old_mean, trained_mean),
            np.where(alive, trained_variance * ratio, trained_variance),
        ]
        current = [query.constant(self.node, index) for index in (3, 4)]
        near = [
            each is not None and np.allclose(each.values, values, rtol=1e-4, atol=1e-6)
            for each, values in zip(current, found, strict=True)
        ]
        if all(near):
            edit.skip(self.node, "the statistics of its input are what it has stored")
            return
        for index, values in zip((3, 4), found, strict=True):
            edit.set_values(
                self.node, index, values.astype(np.float32), "statistics of the pruned model"
            )


Step = LinearStep | NormStep


def _summand(total: np.ndarray, shortcut: np.ndarray, residual: Residual) -> np.ndarray:
    """What the node must put out for the sum to be `total`."""
    wanted: np.ndarray = total - shortcut
    if residual.norm is not None:
        scale, shift = (
            each.reshape(1, -1, *[1] * (total.ndim - 2)) for each in scale_and_shift(residual.norm)
        )
        wanted = (wanted - shift) / scale
    return wanted
