"""Weights trained on, so that a model that lost something comes back to what it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.channels.groups import find_groups
from onnxcompress.channels.penalized import unit_slices
from onnxcompress.distillation.plan import Grid, Penalty, Training
from onnxcompress.distillation.training_pass import (
    TrainingPass,
    frozen_and_grids,
    record,
    zeros_that_stay,
)
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import Context


@dataclass(frozen=True, kw_only=True)
class FineTune(TrainingPass):
    """Conv(x, W, b)  ->  Conv(x, W', b'), outputs nearest to the teacher's, or to the labels.

    By default the teacher is the model as it was before the first pass of the run, and no labels
    are needed. Zeros that pruning made stay zero. Quantization is in the loop: stored integers are
    rounded in each step, and gradients pass QuantizeLinear and DequantizeLinear straight through.
    With a penalty, weights that the outputs can do without become small; what prunes then takes
    them (prune-weights with a threshold, prune-channels) hardly changes them.

    Attributes:
        keep_zeros: zeros of pruned weights stay zero, but on the binary grid, which has none.
        learn_scales: scales of QuantizeLinear and DequantizeLinear are trained too.
        grid: what float weights of Conv, Gemm and MatMul are held to; to run before the pass that
            stores such weights, binarize-weights or ternarize-weights.
        l1: penalty on the mean magnitude of weights of Conv, Gemm and MatMul.
        l2: penalty on their mean square.
        group_lasso: penalty on whole channels, heads, neurons and units; see `inspect --groups`.
    """

    name: ClassVar[str] = "fine-tune"
    recovers: ClassVar[bool] = True
    at_least_zero: ClassVar[tuple[str, ...]] = (
        *TrainingPass.at_least_zero,
        "l1",
        "l2",
        "group_lasso",
    )

    keep_zeros: bool = True
    learn_scales: bool = False
    grid: Grid = Grid.NONE
    l1: float = 0.0
    l2: float = 0.0
    group_lasso: float = 0.0

    def starts_afar(self) -> bool:
        """See `TrainingPass.starts_afar`; a grid and a penalty ask for other weights."""
        return self.grid is not Grid.NONE or max(self.l1, self.l2, self.group_lasso) > 0

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        grid_of = {
            node: options.grid
            for node in query.nodes(model, WEIGHTED_OPS)
            if (options := self.at(node)) is not None
        }
        frozen, grids = frozen_and_grids(self, model, edit, grid_of)
        masks = zeros_that_stay(model, context) if self.keep_zeros else {}
        # A sign is never zero: what was pruned gets one too.
        masks = {each: mask for each, mask in masks.items() if grids.get(each) is not Grid.BINARY}
        teacher = self.teacher_model(context)
        trained = context.train(
            Training(
                student=model,
                teacher=teacher,
                objective=self.objective(model, teacher, context),
                schedule=self.schedule(),
                augmentation=self.augmentation(),
                mirror_teacher=self.mirror_teacher,
                frozen=frozen,
                masks=masks,
                grids=grids,
                learn_scales=self.learn_scales,
                penalty=self._penalty(model, edit, context),
            )
        )
        record(trained, model, edit)

    def _penalty(self, model: Model, edit: Editor, context: Context) -> Penalty:
        weights: dict[Constant, None] = {}
        for node in query.nodes(model, WEIGHTED_OPS) if self.l1 or self.l2 else ():
            stored = query.constant(node, 1)
            if stored is not None and stored.dtype == np.float32 and self.at(node) is not None:
                weights[stored] = None
        followed = None
        if self.group_lasso:
            followed = find_groups(model, context).followed(edit, self.at)
        return Penalty(
            l1=self.l1,
            l2=self.l2,
            group_lasso=self.group_lasso,
            weights=tuple(weights),
            slices=() if followed is None else unit_slices(followed),
        )
