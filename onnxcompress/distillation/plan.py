"""What is asked of training and what comes of it, in words that need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from onnxcompress.distillation.augmentation import Augmentation
from onnxcompress.ir.model import Constant, Model

_HELD_OUT = 0.1
"""Share of the samples that judge a training, where it is not said."""


class OutputLoss(Enum):
    """How an output of the student is compared with the teacher's, by the names recipes use.

    `divergence` is the Kullback-Leibler divergence of the classes' probabilities at a temperature,
    times its square; `mse` the squared error over the variance of the teacher's; `auto` takes the
    first for outputs that look like scores of classes. Source: Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015.
    """

    AUTO = "auto"
    DIVERGENCE = "divergence"
    MSE = "mse"


class Grid(Enum):
    """Values that a float weight is held to while it is trained, by the names recipes use.

    Each is what the pass of that kind stores, so that it stores the trained weight without loss:
    `binary` a sign and `ternary` a sign or zero, times a number for each output channel.
    """

    NONE = "none"
    BINARY = "binary"
    TERNARY = "ternary"


class GradientsOf(Enum):
    """What gradients are taken of, by the names recipes use.

    `labels`: the loss against the labels of the data; `outputs`: what the model itself puts out,
    with no labels needed.
    """

    OUTPUTS = "outputs"
    LABELS = "labels"


@dataclass(frozen=True)
class Match:
    """Two tensors of the main graphs that are to be alike, by `mse` of `OutputLoss`."""

    student: str
    teacher: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What training makes small: a weighted sum.

    Attributes:
        outputs: weight of the distance between all outputs of student and teacher.
        loss: how these are compared.
        temperature: scores are divided by it before they become probabilities.
        labels: weight of the cross entropy (integer labels) or squared error (float ones) between
            the first output and the labels.
        matches: other tensors that are to be alike.
    """

    outputs: float = 1.0
    loss: OutputLoss = OutputLoss.AUTO
    temperature: float = 2.0
    labels: float = 0.0
    matches: tuple[Match, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, how fast and in which order.

    Attributes:
        epochs: rounds over the samples.
        steps: most steps in all; None for what the epochs take.
        time_limit: most seconds; None for no limit. The same seed gives the same result only where
            the limit does not strike.
        batch_size: samples in a step.
        learning_rate: of Adam at its highest: it rises over the first twentieth of the steps and
            falls to zero along a cosine.
        held_out: share of the samples that training does not see; they choose the best moment.
            None takes other samples for that where there are any, else a tenth of these.
        patience: evaluations on these without a better one before training stops; there are
            `evaluations` in all. None goes on to the end.
        evaluations: how often the held-out samples are looked at.
        average: share of the past in a moving average of the weights, of each step; the average is
            then what is judged and kept. None looks back over the last tenth of the steps so far;
            0 keeps the weights of the best moment themselves.
        seed: of order, split and noise.
        checkpoint: an .npz that keeps how far training got; it goes on from there if the file is
            there already. None keeps nothing.
    """

    epochs: int = 10
    steps: int | None = None
    time_limit: float | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    held_out: float | None = 0.1
    patience: int | None = 10
    evaluations: int = 20
    average: float | None = 0.0
    seed: int = 0
    checkpoint: Path | None = None


def held_out_of(count: int, share: float | None, seed: int) -> np.ndarray:
    """Which samples training does not see: int64, rising, never none nor all of them.

    Args:
        count: samples there are.
        share: see `Schedule.held_out`; None for a tenth.
        seed: of the schedule.
    """
    held = min(max(round((_HELD_OUT if share is None else share) * count), 1), count - 1)
    order = np.random.default_rng([seed, 0]).permutation(count)
    found: np.ndarray = np.sort(order[:held])
    return found


@dataclass(frozen=True)
class Slices:
    """Which unit each index along one axis of a stored tensor belongs to.

    Attributes:
        constant: the tensor.
        axis: the axis.
        units: int [length of the axis], -1 for no unit.
    """

    constant: Constant
    axis: int
    units: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What is added to the objective so that weights become zero.

    Attributes:
        l1: times the mean magnitude of the penalized weights.
        l2: times their mean square.
        group_lasso: times the mean over units of the norm of all that belongs to one, each over the
            root of its size. Source: Yuan and Lin, "Model Selection and Estimation in Regression
            with Grouped Variables", 2006.
        weights: what `l1` and `l2` count.
        slices: the units; each is one number of `units`, in whichever tensors it stands.
    """

    l1: float = 0.0
    l2: float = 0.0
    group_lasso: float = 0.0
    weights: tuple[Constant, ...] = ()
    slices: tuple[Slices, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training.

    Attributes:
        student: what is trained; it is not changed.
        teacher: whose tensors are learnt from, run by onnxruntime; None learns from labels alone.
        objective: what is made small.
        schedule: how long.
        augmentation: how the samples are varied that are trained on, not those held out.
        mirror_teacher: the teacher's tensors are the mean of what it says of images and of their
            mirror images.
        inputs: for each input of the student the teacher's tensor that feeds it, where the student
            stands for a part of the teacher. Empty where both read the data.
        frozen: stored tensors that keep their values.
        masks: bool, True where a stored tensor may be other than zero; what is absent is free.
        grids: what float weights are held to.
        learn_scales: whether scales of QuantizeLinear and DequantizeLinear are trained too. Source:
            Esser et al., "Learned Step Size Quantization", 2020.
        penalty: what else is made small.
        pull: times the mean squared distance of weights from where they started, over their mean
            square. Source: Li et al., "Explicit Inductive Bias for Transfer Learning", 2018.
        noise: standard deviation of what is added to weights at the start, as a share of theirs.
    """

    student: Model
    teacher: Model | None
    objective: Objective = field(default_factory=Objective)
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = Augmentation.NONE
    mirror_teacher: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)
    frozen: frozenset[Constant] = frozenset()
    masks: Mapping[Constant, np.ndarray] = field(default_factory=dict)
    grids: Mapping[Constant, Grid] = field(default_factory=dict)
    learn_scales: bool = False
    penalty: Penalty = field(default_factory=Penalty)
    pull: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """How training stood at one moment.

    Attributes:
        step: steps done.
        loss: mean over held-out samples of the objective, plus the penalty; `pull` is left out.
        seconds: since the start.
    """

    step: int
    loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a training.

    Attributes:
        values: new values of the student's stored tensors, of the types these have; what did not
            change is absent.
        history: how it stood at the start, and at each evaluation.
        best: the one whose values these are.
        steps: steps done.
        stopped: why training ended, in words.
        left: nodes whose weights could not be trained, and why.
    """

    values: Mapping[Constant, np.ndarray]
    history: tuple[Evaluated, ...]
    best: Evaluated
    steps: int
    stopped: str
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def gained(self) -> float:
        """The share of the loss at the start that training took away."""
        start = self.history[0].loss
        return 0.0 if start == 0 else 1 - self.best.loss / start
