"""Parts of a model replaced by students that were fitted to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.data.recipe_paths import RecipePath, inside_current_folder
from onnxcompress.distillation.plan import (
    Match,
    Objective,
    Schedule,
    Trained,
    Training,
    held_out_of,
)
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Action, Change, Editor, Skip
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import EXCLUDED, Context, Pass, TensorType, is_weight
from onnxcompress.students.boundary import Boundary, between, of_nodes
from onnxcompress.students.contract import fit
from onnxcompress.students.factory import FACTORIES, make
from onnxcompress.students.part_context import PartContext
from onnxcompress.students.record import record, recorded
from onnxcompress.students.score import relative_error

SWAPPED = "onnxcompress.swapped_subgraphs"
"""The metadata that tells which parts of a model were replaced, and by what."""

Names = str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SwapSubgraph(Pass):
    """y = part(x)  ->  y = student(x), fitted to what the part makes of x on the data.

    The part lies between named tensors of the main graph, or is all nodes of a name. What it reads
    besides (masks, lengths) is fed to the student too. The student is an .onnx file or made from
    the part; it is trained on this boundary alone, with the rest of the model as it is, and put in
    only if it comes near enough. Tensors at the boundary keep their names.

    Attributes:
        inputs: names of the tensors that the part begins with.
        outputs: names of the tensors that it ends with.
        nodes: instead of both, names of its nodes, or shell-style patterns.
        student: the path of an .onnx file below the current folder, or how to make one: `low-rank`
            factors, `narrow` (fewer neurons or channels), `fewer-heads`, `identity` (the part is
            dropped), `separable` convolutions, `relu` for functions like Gelu.
        amount: share to take away when one is made, of parameters, neurons or heads.
        limit: largest squared error over the variance of what the part computes (1 - R^2), on
            samples that training does not see; a worse student is rolled back.
        epochs: rounds over the training samples.
        steps: most training steps; 0 puts the student in as it is and needs no PyTorch.
        time_limit: most seconds of training.
        learning_rate: of Adam at its highest.
        batch_size: samples in a step.
        seed: of the order of samples and of those that are held out.
    """

    name: ClassVar[str] = "swap-subgraph"
    prunes: ClassVar[bool] = True

    inputs: Names = ()
    outputs: Names = ()
    nodes: Names = ()
    student: RecipePath = "low-rank"
    amount: float = 0.5
    limit: float = 0.1
    epochs: int = 10
    steps: int | None = None
    time_limit: float | None = None
    learning_rate: float = 1e-3
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses options that no model can make sense of."""
        fault = None
        if self.student not in FACTORIES and not self.student.endswith(".onnx"):
            fault = f"student takes the path of an .onnx file or {', '.join(FACTORIES)}"
        elif not 0 < self.amount < 1:
            fault = f"amount must be between 0 and 1, not {self.amount}"
        elif not self.limit >= 0:
            fault = f"limit must be at least 0, not {self.limit}"
        elif self.nodes and (self.inputs or self.outputs):
            fault = "nodes goes with neither inputs nor outputs"
        if fault is not None:
            raise RecipeError(f"pass {self.name!r}: {fault}")

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        ends = ", ".join(_names(self.nodes or self.outputs))
        if (before := f"{ends}: {self._told()}") in recorded(model, SWAPPED):
            edit.skips.append(Skip(ends, "subgraph", f"was swapped before for {self._told()}"))
            return
        types = context.types(model)
        boundary = self._boundary(model, types)
        if any(self.at(node) is None for node in boundary.nodes):
            edit.skips.append(Skip(ends, "subgraph", EXCLUDED))
            return
        part = boundary.cut_out(model, types)
        size = part.parameters
        student = self._student(part, PartContext(model, context))
        if isinstance(student, str):
            edit.skips.append(Skip(ends, "subgraph", student))
            return
        fit(model, boundary, student, types)
        start = error = relative_error(model, boundary, student, context)
        trained = self._train(model, student, context)
        if trained is not None:
            error = trained.best.loss
            edit.skips += [Skip(node, "student", why) for node, why in trained.left.items()]
        told = f"error {error:.3g}" + ("" if trained is None else f" (before training {start:.3g})")
        if not error <= self.limit:
            reason = f"{self._told()} rolled back: {told} > limit={self.limit:g}"
            edit.skips.append(Skip(ends, "subgraph", reason))
            return
        detail = f"{self._told()}, {told}, parameters {size} -> {student.parameters}"
        edit.changes.append(Change(Action.CHANGED, ends, "subgraph", detail))
        boundary.replace(edit, student)
        record(model, SWAPPED, [before])

    def sets_aside(self, samples: int, *, others: bool) -> np.ndarray:
        """See `Pass.sets_aside`."""
        if self.steps == 0 or others:
            return super().sets_aside(samples, others=others)
        return held_out_of(samples, None, self.seed)

    def _told(self) -> str:
        """What the student is, in words."""
        made = self.student in FACTORIES and self.student not in ("identity", "relu", "separable")
        return f"{self.student} {self.amount:g}" if made else self.student

    def _boundary(self, model: Model, types: Mapping[str, TensorType]) -> Boundary:
        if self.nodes:
            return of_nodes(model, _names(self.nodes))
        if not self.inputs or not self.outputs:
            raise PassError("swap-subgraph needs inputs and outputs (tensors), or nodes")
        return between(model, _names(self.inputs), _names(self.outputs), types)

    def _student(self, part: Model, context: Context) -> Model | str:
        """The student as it starts; or why there is none."""
        if self.student in FACTORIES:
            return make(part, self.student, context, self.amount)
        return io.load(inside_current_folder(self.student, "a student"))

    def _train(self, model: Model, student: Model, context: Context) -> Trained | None:
        """Fits the student's weights in place; None if nothing is to be trained."""
        if self.steps == 0 or not any(is_weight(each) for each in student.constants()):
            return None
        outputs = [tensor.name for tensor in student.graph.outputs]
        matches = tuple(Match(name, name, 1 / len(outputs)) for name in outputs)
        trained = context.train(
            Training(
                student=student,
                teacher=model,
                objective=Objective(outputs=0.0, matches=matches),
                schedule=Schedule(
                    epochs=self.epochs,
                    steps=self.steps,
                    time_limit=self.time_limit,
                    batch_size=self.batch_size,
                    learning_rate=self.learning_rate,
                    held_out=None,
                    seed=self.seed,
                ),
                inputs={tensor.name: tensor.name for tensor in student.graph.inputs},
            )
        )
        edit = Editor(student)
        for constant, values in trained.values.items():
            edit.set_stored(constant, values, "fitted to the part")
        return trained


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
