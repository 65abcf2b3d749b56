"""Weights moved to the grid that quantization will use, where outputs change least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.kernels import WEIGHTED
from onnxcompress.qdq.matrices import from_matrices, inputs_of, to_matrices
from onnxcompress.qdq.placement import place
from onnxcompress.quantization.granularity import PER_TENSOR, PerChannel, spread
from onnxcompress.quantization.qparams import quantize, symmetric_qparams
from onnxcompress.quantization.rounding import Moments, round_to_grid
from onnxcompress.target import INT8_TRAITS

_POSITIONS = 256
"""Output positions taken of each sample; neighbours in a picture say much the same."""

_BYTES_AT_ONCE = 256 << 20
"""Moments held in one run over the data; nodes that need more take several."""


@dataclass(frozen=True, kw_only=True)
class RoundAdaptively(Pass):
    """Conv(x, W, b)  ->  Conv(x, W rounded, b + E[(W - W rounded) x]).

    To run before quantize-static with the same `per_channel`. W goes to the grid that
    quantize-static chooses for it, so that its integers are those chosen here: not the nearest, but
    those with which the node's output on the calibration data changes least. Where there is a bias,
    it takes up the mean of that change. Weights stay float.
    Source: see `quantization.rounding`.

    Attributes:
        per_channel: as in quantize-static.
        max_features: nodes that sum more products for an output are left to nearest rounding; the
            memory needed grows with the square.
        sweeps: most rounds through all weights of a node; fewer if none moves any more.
    """

    name: ClassVar[str] = "round-adaptively"

    per_channel: bool = True
    max_features: int = 4096
    sweeps: int = 10

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""

        def allowed(node: Node) -> bool:
            options = self.at(node)
            reason = EXCLUDED if options is None else options._unfit(node)
            if reason is not None and node.op in WEIGHTED_OPS:
                edit.skip(node, reason)
            return reason is None

        def refuse(node: Node, reason: str) -> None:
            if node.op in WEIGHTED_OPS:  # others have no weight to round
                edit.skip(node, reason)

        roles = place(model, allowed, refuse).nodes
        nodes = [node for node, role in roles.items() if role in WEIGHTED]
        bits = INT8_TRAITS[context.target].weight_bits
        for portion in _portions(nodes):
            for node, moments in _moments(model, portion, context).items():
                options = self.at(node)
                assert options is not None
                options._round(edit, node, moments, bits)

    def _unfit(self, node: Node) -> str | None:
        """Why a node is left alone; None if it need not be."""
        weight = query.constant(node, 1) if node.op in WEIGHTED_OPS else None
        if weight is None:
            return None  # not weighted, or refused by the placement already
        features = to_matrices(node, weight.values).shape[2]
        if features > self.max_features:
            return f"{features} features > max_features={self.max_features}"
        readers = query.consumers(weight)
        return f"{weight.name!r} has other readers" if len(readers) > 1 else None

    def _round(self, edit: Editor, node: Node, moments: Moments, bits: int) -> None:
        weight, bias = query.constant(node, 1), query.constant(node, 2)
        assert weight is not None
        values = weight.values
        axis = output_channel_axis(node, values.ndim)
        granularity = PerChannel(axis) if self.per_channel else PER_TENSOR
        qparams = symmetric_qparams(values, granularity, bits)
        scale = np.broadcast_to(spread(qparams.scale, values.shape, granularity), values.shape)
        # The largest weight lies at the end of the grid, whichever that is.
        limit = int(np.abs(quantize(values, qparams).astype(np.int16)).max(initial=0))
        wanted = to_matrices(node, values)
        steps = to_matrices(node, scale)
        objective = moments.second if bias is None else moments.covariance
        levels = round_to_grid(wanted, steps, objective, limit, self.sweeps)
        # What the scale was chosen by must stay to the last bit, or it would be chosen anew.
        ends = np.abs(levels) == limit
        rounded = np.where(ends, wanted, (levels * steps).astype(np.float32))
        if np.array_equal(rounded, wanted):
            return
        stored = np.ascontiguousarray(from_matrices(node, rounded, values.shape))
        edit.set_values(node, 1, stored, f"{weight.name} rounded to {2 * limit + 1} levels")
        if bias is not None:
            _shift(edit, node, bias, np.einsum("gof,gf->go", wanted - rounded, moments.mean))


def _shift(edit: Editor, node: Node, bias: Constant, shift: np.ndarray) -> None:
    """Adds one number a channel to a bias, which may be one number for all."""
    values = bias.values.astype(np.float64)
    total = values + (shift.reshape(-1) if values.ndim < 2 else shift.reshape(1, -1))
    edit.set_values(node, 2, total.astype(np.float32), f"{bias.name} takes up the mean error")


def _portions(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Nodes in order, as many at a time as memory for their moments allows."""
    portion: list[Node] = []
    held = 0
    for node in nodes:
        groups, features = _size(node)
        if portion and held + 8 * groups * features**2 > _BYTES_AT_ONCE:
            yield portion
            portion, held = [], 0
        portion.append(node)
        held += 8 * groups * features**2
    if portion:
        yield portion


def _moments(model: Model, nodes: Sequence[Node], context: Context) -> dict[Node, Moments]:
    """What the inputs of some nodes are like on the calibration data."""
    moments = {node: Moments.empty(*_size(node)) for node in nodes}
    names = list(dict.fromkeys(node.inputs[0].name for node in nodes))
    for batch in context.activations(model, names):
        for node, seen in moments.items():
            seen.add(inputs_of(node, batch[node.inputs[0].name], _POSITIONS))
    return moments


def _size(node: Node) -> tuple[int, int]:
    """Groups and features of a weighted node."""
    weight = query.constant(node, 1)
    assert weight is not None
    groups, _, features = to_matrices(node, weight.values).shape
    return groups, features
