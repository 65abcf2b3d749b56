"""What passes that train have in common: options, zeros that stay, and the record of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from onnxcompress.data.recipe_paths import RecipePath, inside_current_folder
from onnxcompress.distillation.augmentation import Augmentation
from onnxcompress.distillation.plan import (
    Grid,
    Match,
    Objective,
    OutputLoss,
    Schedule,
    Trained,
    held_out_of,
)
from onnxcompress.distillation.weights import weight_uses
from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir import io, query
from onnxcompress.ir.edit import Action, Change, Editor
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.names import is_meant
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.pass_base import EXCLUDED, Context, Pass

NO_GAIN = "training made nothing better"
"""How the reason for a skip begins where the weights stay as they were."""

_RATE = 3e-4
"""Learning rate for weights that have far to go."""

_GENTLE_RATE = 1e-4
"""Learning rate for weights that pruning and refitting, or quantization, left near the teacher's.

Steps as large as `_RATE` first lead away from it, and few epochs do not bring that back.
"""

_MOST_FEATURES = 8
"""Tensors that are matched where the user names none."""


@dataclass(frozen=True, kw_only=True)
class TrainingPass(Pass):
    """A pass that trains. Nodes that an override excludes keep their weights.

    Attributes:
        at_least_zero: options that may not be negative.
        epochs: rounds over the training samples.
        steps: most steps of training in all.
        time_limit: most seconds.
        learning_rate: of Adam, at its highest; by default 1e-4 for what is near the teacher
            already, else 3e-4.
        batch_size: samples in a step.
        outputs: weight of the distance between the student's outputs and the teacher's.
        loss: how that distance is measured; see `OutputLoss`.
        temperature: of `divergence`.
        labels: weight of the loss against the labels of the data.
        features: weight of the distance between tensors inside the two models.
        tensors: names (shell-style patterns) of these tensors, alike in both models; by default up
            to eight sums of a residual stream.
        augment: how samples are varied that are trained on; the teacher sees them so too. `auto`
            does what suits pictures, see `Augmentation`; where labels count, nothing.
        mirror_teacher: the teacher's outputs, one row for each image, are the mean of what it says
            of the image and of its mirror image: it errs less so.
        teacher: an .onnx file below the current folder; by default the model as it was before the
            first pass of this run.
        held_out: share of the samples that choose the best moment and are not trained on; by
            default the part of the data to choose by does that, and where there is none, a tenth.
        patience: evaluations on these, of 20 in all, without a better one before it stops. By
            default it does not: the learning rate falls to the end, and most is gained there.
        average: share of the past, of each step, in a moving average of the weights that is judged
            and kept in their place; by default it looks back over the last tenth of the steps so
            far. 0 for none.
        seed: of all that is random.
        checkpoint: an .npz below the current folder to keep how far it got in, and to go on from.
    """

    at_least_zero: ClassVar[tuple[str, ...]] = ("epochs", "seed", "outputs", "labels", "features")

    epochs: int = 10
    steps: int | None = None
    time_limit: float | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    outputs: float = 1.0
    loss: OutputLoss = OutputLoss.AUTO
    temperature: float = 2.0
    labels: float = 0.0
    features: float = 0.0
    tensors: tuple[str, ...] = ()
    augment: Augmentation = Augmentation.AUTO
    mirror_teacher: bool = False
    teacher: RecipePath | None = None
    held_out: float | None = None
    patience: int | None = None
    average: float | None = None
    seed: int = 0
    checkpoint: RecipePath | None = None

    def __post_init__(self) -> None:
        """Refuses options that mean nothing, before anything that takes long was done."""
        fault = self._fault()
        if fault is not None:
            raise RecipeError(f"pass {self.name!r}: {fault}")

    def _fault(self) -> str | None:
        rules = {
            **{name: getattr(self, name) >= 0 for name in self.at_least_zero},
            "steps": self.steps is None or self.steps >= 0,
            "time_limit": self.time_limit is None or self.time_limit > 0,
            "learning_rate": self.learning_rate is None or self.learning_rate > 0,
            "batch_size": self.batch_size >= 1,
            "temperature": self.temperature > 0,
            "held_out": self.held_out is None or 0 < self.held_out < 1,
            "patience": self.patience is None or self.patience >= 1,
            "average": self.average is None or 0 <= self.average < 1,
        }
        for name, holds in rules.items():
            if not holds:
                return f"{name}={getattr(self, name)} is out of range"
        if self.augment.mixes and self.labels:
            return f"augment={self.augment.value} mixes samples, which no label fits"
        if not self.outputs and not self.labels and not self.features:
            return "nothing to learn from: outputs, labels and features are all 0"
        return None

    def starts_afar(self) -> bool:
        """Whether the weights have far to go."""
        return False

    def schedule(self) -> Schedule:
        """How long training takes.

        Raises:
            DataError: the checkpoint lies outside the current folder.
        """
        checkpoint = None
        if self.checkpoint is not None:
            checkpoint = inside_current_folder(self.checkpoint, "a checkpoint")
        return Schedule(
            epochs=self.epochs,
            steps=self.steps,
            time_limit=self.time_limit,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate or (_RATE if self.starts_afar() else _GENTLE_RATE),
            held_out=self.held_out,
            patience=self.patience,
            average=self.average,
            seed=self.seed,
            checkpoint=checkpoint,
        )

    def augmentation(self) -> Augmentation:
        """How samples are varied; a label may not fit a picture that was mirrored or moved."""
        guessed = self.augment is Augmentation.AUTO and self.labels > 0
        return Augmentation.NONE if guessed else self.augment

    def sets_aside(self, samples: int, *, others: bool) -> np.ndarray:
        """See `Pass.sets_aside`."""
        if self.held_out is None and others:
            return super().sets_aside(samples, others=others)
        return held_out_of(samples, self.held_out, self.seed)

    def teacher_model(self, context: Context) -> Model | None:
        """Whom is learnt from; None where labels alone count.

        Raises:
            PassError: there is none.
        """
        if not self.outputs and not self.features:
            return None
        if self.teacher is not None:
            return io.load(inside_current_folder(self.teacher, "a teacher"))
        if context.original_model is None:
            raise PassError("no teacher is known: name one with teacher=FILE.onnx")
        return context.original_model

    def objective(self, student: Model, teacher: Model | None, context: Context) -> Objective:
        """What is made small.

        Raises:
            PassError: student and teacher differ in their outputs, or have no tensor in common
                that was asked for.
        """
        matches: tuple[Match, ...] = ()
        if teacher is not None:
            _check_outputs(student, teacher)
            if self.features:
                names = self._common(student, teacher, context)
                matches = tuple(Match(name, name, self.features / len(names)) for name in names)
        return Objective(
            outputs=self.outputs,
            loss=self.loss,
            temperature=self.temperature,
            labels=self.labels,
            matches=matches,
        )

    def _common(self, student: Model, teacher: Model, context: Context) -> list[str]:
        """Tensors of one name and shape in both models, those that were asked for."""
        ours, theirs = context.types(student), context.types(teacher)
        ending = {output.name for output in student.graph.outputs}
        names = [
            tensor.name
            for node in student.graph.nodes
            for tensor in node.outputs
            if tensor.name in ours
            and ours[tensor.name] == theirs.get(tensor.name)
            and ours[tensor.name].dtype == np.float32
            and tensor.name not in ending
            and (self._asks_for(tensor.name) if self.tensors else _is_stream(node))
        ]
        if not names:
            what = f"of {', '.join(self.tensors)}" if self.tensors else "sums of a residual stream"
            raise PassError(
                f"features={self.features:g}, but student and teacher have no tensor of the same "
                f"name and shape among {what}; name others with tensors"
            )
        if self.tensors or len(names) <= _MOST_FEATURES:
            return names
        chosen = np.linspace(0, len(names) - 1, _MOST_FEATURES).round().astype(int)
        return [names[at] for at in chosen]

    def _asks_for(self, name: str) -> bool:
        return any(is_meant(name, pattern) for pattern in self.tensors)


def _is_stream(node: Node) -> bool:
    """Whether a node adds two tensors that are both computed."""
    return node.op == "Add" and all(query.producer(each) is not None for each in node.inputs)


def _check_outputs(student: Model, teacher: Model) -> None:
    names = [{tensor.name for tensor in model.graph.outputs} for model in (student, teacher)]
    if not names[0] <= names[1]:
        missing = ", ".join(sorted(names[0] - names[1]))
        raise PassError(f"the teacher has no output {missing}, which the student has")


def frozen_and_grids(
    pass_: TrainingPass, model: Model, edit: Editor, grid_of: Mapping[Node, Grid]
) -> tuple[frozenset[Constant], dict[Constant, Grid]]:
    """Weights that overrides exclude, which are recorded, and the grids of the others."""
    frozen: set[Constant] = set()
    grids: dict[Constant, Grid] = {}
    told: set[Node] = set()
    for constant in model.constants():
        uses = weight_uses(constant)
        excluded = [node for node in uses if pass_.at(node) is None]
        if excluded:
            frozen.add(constant)
            if excluded[0] not in told:
                edit.skip(excluded[0], EXCLUDED)
            told.add(excluded[0])
        told |= _tell_ignored(pass_, [each for each in uses if each not in told], edit)
        is_matrix = len(constant.shape) > 1 and constant.dtype == np.float32
        found = {grid_of[node] for node in uses if node in grid_of and node.op in WEIGHTED_OPS}
        if is_matrix and len(found) == 1 and Grid.NONE not in found:
            grids[constant] = found.pop()
    return frozenset(frozen), grids


def _tell_ignored(pass_: TrainingPass, nodes: Sequence[Node], edit: Editor) -> set[Node]:
    """Records nodes whose options differ in what holds for a whole training; returns them."""
    told: set[Node] = set()
    for node in nodes:
        options = pass_.at(node)
        if options is None:
            continue
        ignored = [
            field.name
            for field in fields(pass_)
            if field.name not in ("overrides", "grid")
            and getattr(options, field.name) != getattr(pass_, field.name)
        ]
        if ignored:
            names = ", ".join(ignored)
            edit.skip(node, f"{names} of its override: only exclude and grid hold for single nodes")
            told.add(node)
    return told


def zeros_that_stay(model: Model, context: Context) -> dict[Constant, np.ndarray]:
    """Masks (True = free) of weights that pruning zeroed.

    Zeros of matrices and filters count as pruned; those of vectors, biases say, only where the
    model from before pruning has another number there. Zeros of stored integers count where the
    float weight that was quantized is zero.
    """
    masks: dict[Constant, np.ndarray] = {}
    unpruned = _by_place(context.unpruned_model)
    floats = _by_place(context.float_model)
    for constant in model.constants():
        for node in weight_uses(constant)[:1]:
            values: np.ndarray | None = None
            if constant.dtype == np.float32:
                values = constant.values
            else:
                reader = query.consumers(constant)[0]
                before = floats.get((node.name, _input_of(node, reader)))
                if before is not None and before.shape == constant.shape:
                    values = before.values
            if values is None:
                continue
            mask = values != 0
            if len(constant.shape) < 2:
                origin = unpruned.get((node.name, _input_of(node, constant)))
                fits = origin is not None and origin.shape == constant.shape
                mask |= (origin.values == 0) if origin is not None and fits else True
            if not mask.all():
                masks[constant] = mask
    return masks


def _by_place(model: Model | None) -> dict[tuple[str, int], Constant]:
    """Stored tensors by the name of a node that reads them and the index of its input."""
    nodes = [] if model is None else [node for _, node in model.nodes()]
    return {
        (node.name, index): tensor
        for node in nodes
        for index, tensor in enumerate(node.inputs)
        if isinstance(tensor, Constant)
    }


def _input_of(node: Node, source: Constant | Node) -> int:
    """The input of a node that a stored tensor, or what a node computes, reaches directly."""
    tensors = source.outputs if isinstance(source, Node) else [source]
    return next((at for at, each in enumerate(node.inputs) if each in tensors), -1)


def record(trained: Trained, model: Model, edit: Editor) -> None:
    """Writes trained values into a model, and on record what training did and left alone."""
    nodes = {node.name: node for _, node in model.nodes()}
    skipped = {skip.node for skip in edit.skips}
    for name, reason in trained.left.items():
        if name in nodes and name not in skipped:
            edit.skip(nodes[name], reason)
    start, best = trained.history[0], trained.best
    told = (
        f"loss on held-out samples {start.loss:.4g} -> {best.loss:.4g} at step {best.step}; "
        f"{trained.stopped}, {trained.history[-1].seconds:.0f} s"
    )
    if not trained.values:
        first = next(iter(query.nodes(model, WEIGHTED_OPS)), model.graph.nodes[0])
        edit.skip(first, f"{NO_GAIN}: {told}")
        return
    edit.changes.append(Change(Action.CHANGED, model.graph.name, "training", told))
    for constant, values in trained.values.items():
        edit.set_stored(constant, values, "trained")
