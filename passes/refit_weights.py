"""Weights of a pruned model that make up for what was taken away, by least squares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.channels.refit_steps import FitSettings, LinearStep, NormStep, Step
from onnxcompress.channels.refit_targets import (
    Target,
    changed_nodes,
    find_norm,
    find_target,
    stages,
    without_later_sums,
)
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.matrices import to_matrices

_BYTES_AT_ONCE = 416 << 20
"""Sums held in one run over the data."""

_RIDGES = (1.0, 10.0, 100.0, 1000.0)
"""What `ridge` is multiplied with, in turn."""

_GAIN = 0.01
"""Least share of the error on samples set aside that a fit must take away from an output."""

_NORM = "BatchNormalization"


@dataclass(frozen=True, kw_only=True)
class RefitWeights(Pass):
    """Conv(x', W', b')  ->  Conv(x', W'', b''), outputs nearest to the unpruned model's.

    To run after passes that prune, before strip-pruned. Conv, Gemm and MatMul, one after another:
    each by least squares on the calibration data, from what it reads in the pruned model as it is
    by then, to what it put out before pruning. Zeros stay zero. Every fifth sample is set aside and
    decides for each output how strong the ridge is, and whether it is changed at all.
    Source: see `pruning.least_squares`.

    Attributes:
        ridge: penalty on the change of weights, as a share of the mean variance of what they
            multiply; 10, 100 and 1000 times as much are tried too.
        positions: output positions taken of each sample.
        residual: a node that writes into a sum is fitted so that the sum is right, not its own
            part: it makes up for the other part too.
        batchnorm: statistics of BatchNormalization move as those of its input did.
        samples: of those to fit, at most, where they are more than calibrate and what the models
            compute of them can be kept in memory.
        max_features: nodes that sum more products for an output are left alone; the memory needed
            grows with the square.
    """

    name: ClassVar[str] = "refit-weights"
    recovers: ClassVar[bool] = True

    ridge: float = 1e-3
    positions: int = 128
    residual: bool = True
    batchnorm: bool = True
    samples: int = 1000
    max_features: int = 4608

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        original = context.unpruned_model
        if original is None:
            for node in query.nodes(model, WEIGHTED_OPS):
                edit.skip(node, "no unpruned model is known: run it in one recipe with what prunes")
            return
        named = {node.name: node for node in original.graph.nodes}
        targets, norms = self._candidates(model, edit, named)
        for target in targets.values():  # a fit puts right what such a one would correct
            for holder in target.holders:
                norms.pop(holder, None)
        targets = without_later_sums(model, targets, norms)
        reads: dict[Node, Sequence[Tensor]] = {node: node.inputs[:1] for node in norms}
        reads |= {node: target.reads for node, target in targets.items()}
        sizes = {node: LinearStep.size(target) for node, target in targets.items()}
        if not reads:
            return
        paired = context.paired_activations(model, original, self.samples)
        for stage in stages(model, reads, sizes, _BYTES_AT_ONCE):
            steps: list[Step] = []
            for node in stage:
                options = self.at(node)
                assert options is not None
                if node in targets:
                    steps.append(LinearStep(targets[node], options._settings()))
                else:
                    steps.append(NormStep(node, norms[node]))
            watched = list(dict.fromkeys(name for step in steps for name in step.watched))
            wanted = list(dict.fromkeys(step.wanted for step in steps))
            for batch in paired.batches(watched, wanted, stage[0]):
                for step in steps:
                    step.add(*batch)
            for step in steps:
                step.finish(edit)

    def _candidates(
        self, model: Model, edit: Editor, named: Mapping[str, Node]
    ) -> tuple[dict[Node, Target], dict[Node, Node]]:
        """Linear nodes and what they are fitted to; BatchNormalization nodes and what they were."""
        targets: dict[Node, Target] = {}
        norms: dict[Node, Node] = {}
        outermost, changed = set(model.graph.nodes), changed_nodes(model, named)
        for node in query.nodes(model, {*WEIGHTED_OPS, _NORM}):
            options = self.at(node)
            found: Target | Node | str = EXCLUDED
            if options is None:
                pass
            elif node not in outermost:
                found = "stands in a body (If, Loop, Scan), whose tensors cannot be watched"
            elif node.op == _NORM:
                found = find_norm(node, named) if options.batchnorm else "batchnorm=false"
            elif (unfit := options._unfit(node)) is not None:
                found = unfit
            else:
                found = find_target(model, node, named, residual=options.residual)
            if not isinstance(found, str) and node not in changed:
                summand = found.residual if isinstance(found, Target) else None
                if summand is None or query.producer(summand.shortcut) not in changed:
                    found = "nothing before it was pruned"
            if isinstance(found, str):
                edit.skip(node, found)
            elif isinstance(found, Target):
                targets[node] = found
            else:
                norms[node] = found
        return targets, norms

    def _settings(self) -> FitSettings:
        ridges = [self.ridge * factor for factor in _RIDGES]
        return FitSettings([*ridges, np.inf], _GAIN, self.positions)

    def _unfit(self, node: Node) -> str | None:
        """Why a linear node is left alone; None if it need not be."""
        weight = query.constant(node, 1)
        if weight is None:
            return "its weight is not stored"
        if weight.dtype != np.float32:
            return f"its weight is {weight.dtype}"
        if node.op == "ConvTranspose":
            return "spreads its inputs over overlapping outputs"
        if isinstance(node.inputs[0], Constant):
            return "its input is stored, not computed"
        if node.op == "Gemm" and node.int_attr("transA", 0):
            return "transposes its input (transA)"
        if node.op == "Gemm" and any(node.float_attr(name, 1.0) != 1 for name in ("alpha", "beta")):
            return "scales its product or its bias (alpha, beta)"
        if node.op == "MatMul" and len(weight.shape) != 2:
            return f"its weight {list(weight.shape)} is not one matrix"
        if len(query.consumers(weight)) > 1:
            return f"{weight.name!r} has other readers"
        features = to_matrices(node, weight.values).shape[2]
        if features > self.max_features:
            return f"{features} features > max_features={self.max_features}"
        return None
