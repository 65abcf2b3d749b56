"""Weights moved to the grid that quantization will use, where outputs change least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.kernels import WEIGHTED
from onnxcompress.qdq.matrices import add_to_bias, from_matrices, to_matrices
from onnxcompress.qdq.moments import input_moments
from onnxcompress.qdq.placement import place
from onnxcompress.qdq.weight_grid import grid_bounds, weight_grid
from onnxcompress.quantization.granularity import PER_TENSOR, PerChannel, spread
from onnxcompress.quantization.rounding import Bounds, Moments, round_to_grid
from onnxcompress.target import INT8_TRAITS, Int8Traits

_POSITIONS = 256
"""Output positions taken of each sample; neighbours in a picture say much the same."""


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
        traits = INT8_TRAITS[context.target]
        for portion in input_moments(model, nodes, context, _POSITIONS):
            for node, moments in portion.items():
                options = self.at(node)
                assert options is not None
                options._round(edit, node, moments, traits)

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

    def _round(self, edit: Editor, node: Node, moments: Moments, traits: Int8Traits) -> None:
        weight, bias = query.constant(node, 1), query.constant(node, 2)
        assert weight is not None
        values = weight.values
        axis = output_channel_axis(node, values.ndim)
        granularity = PerChannel(axis) if self.per_channel else PER_TENSOR
        qparams = weight_grid(node, values, granularity, traits)
        scale = np.broadcast_to(spread(qparams.scale, values.shape, granularity), values.shape)
        wanted, steps = to_matrices(node, values), to_matrices(node, scale)
        # What the scale was chosen by must stay to the last bit, or it would be chosen anew.
        bounds = grid_bounds(node, values / scale, traits)
        inside = Bounds(*(to_matrices(node, e) for e in (bounds.low, bounds.high, bounds.free)))
        objective = moments.second if bias is None else moments.covariance
        matrices = round_to_grid(wanted, steps, objective, inside, self.sweeps)
        levels = from_matrices(node, matrices, values.shape)
        stored = np.where(bounds.free, (levels * scale).astype(np.float32), values)
        if np.array_equal(stored, values):
            return
        edit.set_values(node, 1, stored, f"{weight.name} rounded to its int8 grid")
        if bias is not None:
            lost = wanted - to_matrices(node, stored)
            add_to_bias(edit, node, np.einsum("gof,gf->go", lost, moments.mean))
