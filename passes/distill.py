"""A student that learns what the model knows, and takes its place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.data.recipe_paths import RecipePath, inside_current_folder
from onnxcompress.distillation.initial import random_values
from onnxcompress.distillation.plan import Training
from onnxcompress.distillation.training_pass import (
    TrainingPass,
    frozen_and_grids,
    record,
    zeros_that_stay,
)
from onnxcompress.errors import PassError
from onnxcompress.ir import io
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Context


class Start(Enum):
    """What the student's weights are before it learns, by the names recipes use."""

    GIVEN = "given"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Distill(TrainingPass):
    """y = teacher(x)  ->  y = student(x), trained on what the teacher makes of the data.

    The student is a file, or the model as earlier passes of the recipe left it: with fewer blocks
    (drop-block), channels (prune-channels, strip-pruned) or low-rank factors (factorize-weights).

    Weak distillation (`start=random`): the student knows the data alone, and the teacher's outputs
    or the labels. Strong distillation (`start=given` with a student made from the teacher): it
    starts from the teacher's own parameters, and `pull` keeps it near them.
    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.

    Attributes:
        student: an .onnx file below the current folder with the same inputs and outputs; by
            default the model as it is.
        start: `given` keeps the weights the student comes with, `random` draws new ones.
        pull: how strongly weights are drawn back to where they started.
        noise: spread of what is added to weights at the start, as a share of theirs.
    """

    name: ClassVar[str] = "distill"
    recovers: ClassVar[bool] = True
    at_least_zero: ClassVar[tuple[str, ...]] = (*TrainingPass.at_least_zero, "pull", "noise")

    student: RecipePath | None = None
    start: Start = Start.GIVEN
    pull: float = 0.0
    noise: float = 0.0

    def starts_afar(self) -> bool:
        """See `TrainingPass.starts_afar`; nobody knows what is in a file."""
        return self.start is Start.RANDOM or self.student is not None

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        teacher = self.teacher_model(context)
        if self.student is not None:
            student = io.load(inside_current_folder(self.student, "a student"))
            _check_contract(student, model, self.student)
            edit.replace_model(student, f"the student {self.student}")
        frozen, _ = frozen_and_grids(self, model, edit, {})
        if self.start is Start.RANDOM:
            for constant, values in random_values(model, self.seed).items():
                if constant not in frozen:
                    edit.set_stored(constant, values, "drawn at random")
        keeps_zeros = self.start is Start.GIVEN
        trained = context.train(
            Training(
                student=model,
                teacher=teacher,
                objective=self.objective(model, teacher, context),
                schedule=self.schedule(),
                augmentation=self.augmentation(),
                mirror_teacher=self.mirror_teacher,
                frozen=frozen,
                masks=zeros_that_stay(model, context) if keeps_zeros else {},
                pull=self.pull,
                noise=self.noise,
            )
        )
        record(trained, model, edit)


def _check_contract(student: Model, model: Model, path: str) -> None:
    """Raises PassError unless the student can stand where the model stands."""
    for what in ("inputs", "outputs"):
        theirs = {each.name: each for each in getattr(student.graph, what)}
        ours = {each.name: each for each in getattr(model.graph, what)}
        if theirs.keys() != ours.keys():
            raise PassError(
                f"{path}: its {what} are {', '.join(theirs)}, and the model's {', '.join(ours)}"
            )
        for name, tensor in ours.items():
            other = theirs[name]
            if tensor.dtype is not None and np.dtype(tensor.dtype) != other.dtype:
                raise PassError(f"{path}: {name!r} is {other.dtype}, in the model {tensor.dtype}")
            if tensor.shape is None or other.shape is None:
                continue
            fits = len(tensor.shape) == len(other.shape) and all(
                a == b or not (isinstance(a, int) and isinstance(b, int))
                for a, b in zip(tensor.shape, other.shape, strict=True)
            )
            if not fits:
                raise PassError(
                    f"{path}: {name!r} is {list(other.shape)}, in the model {list(tensor.shape)}"
                )
