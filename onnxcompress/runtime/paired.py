"""Two models over the same samples, again and again, without computing twice what stays."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxcompress.clean import remove_unused
from onnxcompress.data.dataset import Dataset
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node, Variable
from onnxcompress.pass_base import TensorType
from onnxcompress.runtime.calibration import BATCH_BYTES, Progress
from onnxcompress.runtime.loading import session_of
from onnxcompress.runtime.session import SessionSettings

KEPT_BYTES = 512 << 20
"""Bytes of activations, over all samples, that are kept of each model for the next run."""

LIVE = 4
"""Tensors of the largest size that a batch may hold at a time."""

Batch = dict[str, np.ndarray]


@dataclass
class _Replayed:
    """A model and what is kept of its last run, batch by batch."""

    model: Model
    types: Mapping[str, TensorType]
    kept: list[Batch] = field(default_factory=list)

    def until(self, settled: str, samples: int) -> list[str]:
        """What nodes before the settled one compute and others read; [] if it is too much."""
        nodes = self.model.graph.nodes
        position = next((i for i, node in enumerate(nodes) if node.name == settled), None)
        if position is None:
            return []
        early = {tensor for node in nodes[:position] for tensor in node.outputs}
        read = {
            tensor
            for node in nodes[position:]
            for each in (node, *node.inner_nodes())
            for tensor in each.inputs
        }
        names = [tensor.name for tensor in early & read if tensor.name in self.types]
        size = samples * sum(4 * math.prod(self.types[name].shape) for name in names)
        known = len(names) == len(early & read)
        return sorted(names) if known and size <= KEPT_BYTES else []

    def run(
        self, feeds: Iterator[Batch], tensors: Sequence[str], keep: Sequence[str]
    ) -> Iterator[Batch]:
        """Yields the tensors of each batch; afterwards `kept` holds those to keep, if any."""
        before, now = self.kept, []
        start = before[0] if before else {}
        given = {tensor.name for tensor in self.model.graph.inputs} | start.keys()
        computed = [name for name in dict.fromkeys([*tensors, *keep]) if name not in given]
        session = None
        if computed:
            part = part_of(self.model, computed, before)
            session = session_of(part, SessionSettings(prepack=False))
            wanted = {signature.name for signature in session.inputs}
        for index, fed in enumerate(feeds):
            known = fed | (before[index] if before else {})
            if session is not None:
                needed = {name: values for name, values in known.items() if name in wanted}
                known |= session.run(needed, computed)
            if keep:
                now.append({name: known[name] for name in keep})
            yield {name: known[name] for name in tensors}
        if keep:
            self.kept = now


class PairedRuns:
    """See `pass_base.PairedActivations`.

    Args:
        model: may be edited between runs, in its stored tensors.
        other: the same inputs.
        data: what both are fed.
        types: of both models' tensors, for one sample.
        progress: told after each batch.
    """

    def __init__(
        self,
        model: Model,
        other: Model,
        data: Dataset,
        types: Mapping[str, TensorType],
        progress: Progress | None = None,
    ):
        self._pair = _Replayed(model, types), _Replayed(other, types)
        self._data = data
        self._progress = progress
        largest = max((4 * math.prod(each.shape) for each in types.values()), default=BATCH_BYTES)
        self._size = max(1, BATCH_BYTES // max(LIVE * largest, 1))

    def batches(
        self, tensors: Sequence[str], other_tensors: Sequence[str], settled: Node
    ) -> Iterator[tuple[Batch, Batch]]:
        """See `pass_base.PairedActivations.batches`."""
        done, runs = 0, []
        for each, watched in zip(self._pair, (tensors, other_tensors), strict=True):
            feeds = (batch.feeds for batch in self._data.batches(self._size))
            runs.append(each.run(feeds, watched, each.until(settled.name, len(self._data))))
        for one, two in zip(*runs, strict=True):
            yield one, two
            done = min(done + self._size, len(self._data))
            if self._progress:
                self._progress(done, len(self._data))


def part_of(
    model: Model, tensors: Collection[str], given: Sequence[Mapping[str, np.ndarray]] = ()
) -> Model:
    """A copy that returns the named tensors and holds nothing that they do not need.

    Args:
        model: left as it is.
        tensors: computed in the main graph.
        given: tensors of the main graph that become inputs, with what they hold in each batch.
    """
    part = clone(model)
    written = {tensor.name: tensor for node in part.graph.nodes for tensor in node.outputs}
    part.graph.outputs = [written[name] for name in tensors]
    for name in given[0] if given else ():
        tensor = written[name]
        tensor.inputs.clear()
        tensor.dtype = given[0][name].dtype
        # What all batches agree on is told: a Resize wants to know how many sizes it is given.
        lengths = zip(*(batch[name].shape for batch in given), strict=True)
        tensor.shape = [all_[0] if len(set(all_)) == 1 else None for all_ in lengths]
        part.graph.inputs.append(tensor)
    remove_unused(part, Editor(part))
    part.graph.inputs[:] = [each for each in part.graph.inputs if _is_read(each)]
    return part


def _is_read(tensor: Variable) -> bool:
    return bool(tensor.outputs)
