"""What a pass is: a frozen dataclass whose fields are its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, Self

import numpy as np

from onnxcompress.distillation.plan import GradientsOf, Trained, Training
from onnxcompress.ir.edit import Change, Editor, Skip
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.names import is_meant
from onnxcompress.quantization.observers import Observer, Range
from onnxcompress.releases import Release
from onnxcompress.target import Target


@dataclass(frozen=True)
class TensorType:
    """What a tensor turned out to be when a sample was run."""

    dtype: np.dtype
    shape: tuple[int, ...]


class PairedActivations(Protocol):
    """Two models over the calibration data, run again as stored tensors of the first change."""

    def batches(
        self, tensors: Sequence[str], other_tensors: Sequence[str], settled: Node
    ) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """The named tensors of both main graphs, for the same samples batch by batch.

        Args:
            tensors: of the first model, its inputs among them.
            other_tensors: of the other one.
            settled: nodes before this one in the first model's order will not change any more, so
                that later runs may start from what they computed.
        """
        ...


class Context(Protocol):
    """What a pass may ask for. Each service computes on demand, once, and shares the result.

    A service that needs data raises `DataError` when there is none, naming what it was for.
    """

    @property
    def target(self) -> Target:
        """The processor the result is meant for."""
        ...

    @property
    def float_model(self) -> Model | None:
        """The float model that the quantized one at hand stands for; None if it is not known.

        It is the model as it was before the first pass of this run that stored integers: clean-up
        and equalization rename and scale tensors, so the file as it was loaded is no reference.
        """
        ...

    @property
    def unpruned_model(self) -> Model | None:
        """The model as it was before the first pass of this run that prunes; None before that."""
        ...

    @property
    def original_model(self) -> Model | None:
        """The model as it was before the first pass of this run: the teacher, if none is named."""
        ...

    def train(self, training: Training) -> Trained:
        """Trains stored tensors by gradients, on the training data.

        Raises:
            DataError: there are no data, or no labels where the objective asks for them.
            ModelError: the student has no tensor to train, or a node that PyTorch has no
                counterpart for.
            PassError: PyTorch is not installed.
        """
        ...

    def gradients(
        self, model: Model, constants: Sequence[Constant], of: GradientsOf, seed: int = 0
    ) -> Iterator[Mapping[Constant, np.ndarray]]:
        """Gradients (float32) of a loss with respect to stored float32 tensors.

        Args:
            model: that they belong to.
            constants: stored tensors.
            of: the loss.
            seed: of what is drawn at random where no labels are used.

        Yields:
            One mapping for each few samples of the calibration data; the same objects may not be
            kept, or memory grows with the data.

        Raises:
            DataError: there are no data, or no labels where they are asked for.
            ModelError: a node that PyTorch has no counterpart for.
            PassError: PyTorch is not installed.
        """
        ...

    def evaluate(self, model: Model, nodes: Sequence[Node]) -> Mapping[str, np.ndarray]:
        """The outputs, by tensor name, of nodes that depend on stored tensors alone."""
        ...

    def types(self, model: Model) -> Mapping[str, TensorType]:
        """Element type and shape of the main graph's tensors, from running one sample.

        A tensor it cannot tell is absent: a sequence, a map, or every tensor of a model that is too
        large to run or that made-up inputs do not suit.
        """
        ...

    def ranges(
        self, model: Model, tensors: Sequence[str], observer: Observer
    ) -> Mapping[str, Range]:
        """The range of each named float tensor of the main graph over the calibration data.

        One that holds NaN or infinite values there is absent: nothing it touches can be integers.
        """
        ...

    def activations(self, model: Model, tensors: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """The named tensors of the main graph over the calibration data, batch by batch.

        Nothing is kept: a pass sums up what it needs, in memory that does not grow with the data.
        """
        ...

    def paired_activations(
        self, model: Model, other: Model, samples: int | None = None
    ) -> PairedActivations:
        """Tensors of two models that take the same inputs, for the same samples.

        Args:
            model: the one that is changed between runs.
            other: the one that is not.
            samples: how many training samples to take, if these are more than the calibration data
                and what both models compute of them can be kept between runs; None for the
                calibration data.
        """
        ...

    def time_ratio(self, model: Model, other: Model) -> float:
        """What one sample takes in a model over what it takes in another, measured in turns.

        Raises:
            SessionError: one of them does not run on the sample.
        """
        ...


@dataclass(frozen=True)
class Override:
    """Other options for some nodes: by name (shell-style patterns) or by op type.

    `options` is the pass as it acts on those nodes; None leaves them alone.
    """

    options: Pass | None
    nodes: tuple[str, ...] = ()
    op_types: tuple[str, ...] = ()

    def names(self, node: Node) -> bool:
        """Whether the override means this node by its name."""
        return any(is_meant(node.name, pattern) for pattern in self.nodes)


@dataclass(frozen=True, kw_only=True)
class Pass(ABC):
    """A graph rewrite. The first line of a pass's docstring is the rewrite itself.

    Attributes:
        name: how recipes and the command line call it.
        exact: whether outputs stay equal, up to float rounding; the manager checks it.
        prunes: whether it takes parameters away; see `Context.unpruned_model`.
        recovers: whether it makes up for what was pruned and leaves zeros zero, so that it can run
            between two rounds of pruning; see `scaled`.
        packs: whether it stores weights in fewer bits. Nodes then read theirs as if they were
            stored as they are, whatever view of a stored tensor they read; none is packed whose
            float original stays for another node.
        packs_once: whether all that reads a stored tensor reads the one packed copy of it, so that
            views of a tensor that is read as it is, too, stay views of that copy.
        seeks: what it works on, for the report where a model has none and no node was a candidate;
            empty for clean-up, of which a model may need none.
        opset: the lowest standard opset the rewrite can be written in; see `required_opset` for a
            pass where that depends on its options.
        release: the onnxruntime that the result must load on, if the manager was told one: where
            there are several ways to write something, the pass takes one that it knows. The manager
            sees to the rest.
        overrides: other options for some nodes; a node name that is written out beats a pattern
            beats an op type beats the default.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = False
    prunes: ClassVar[bool] = False
    recovers: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    packs_once: ClassVar[bool] = False
    seeks: ClassVar[str] = ""
    opset: ClassVar[int] = 1

    overrides: tuple[Override, ...] = field(default=(), repr=False)
    release: Release | None = field(default=None, repr=False)

    @abstractmethod
    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """Rewrites `model` through `edit`; `edit.skip` records what is left alone and why."""

    def sets_aside(self, samples: int, *, others: bool) -> np.ndarray:
        """Which of so many training samples judge what this pass trains.

        Nothing that runs before it learns from them either. What was fitted to them looks better on
        them than it is, so that training would seem to make it worse.

        Args:
            samples: how many there are to train on.
            others: whether there are other samples too, to choose by.

        Returns:
            int64 numbers of samples; none for a pass that does not train.
        """
        del samples, others
        return np.empty(0, np.int64)

    def required_opset(self) -> int:
        """The lowest standard opset the rewrite can be written in with these options.

        See `opset_for`, which also heeds the overrides' options.
        """
        return self.opset

    def packs_halves(self) -> bool:
        """Whether it stores a weight in fewer bits than float16 and bfloat16 have.

        If so, weights stored in those and cast up are packed as well.
        """
        return True

    def opset_for(self, model: Model, context: Context) -> int:
        """The opset that the manager raises an older model to first.

        By default what the options need, whatever there is in the model; a pass that writes some
        nodes in an older form than others looks at them.
        """
        del model, context
        others = [each.options for each in self.overrides if each.options is not None]
        return max(each.required_opset() for each in (self, *others))

    def scaled(self, share: float) -> Self | None:
        """This pass asked for only a share of what it is to leave zero, for a round of pruning.

        Args:
            share: from above 0 to 1, of the amount itself: 0.5 of a sparsity of 0.8 is one of 0.4,
                whatever is zero already.

        Returns:
            None for a pass that has no amount to take a share of.
        """
        del share
        return None

    def everywhere(self, change: Callable[[Self], Self]) -> Self:
        """This pass with its options changed, those of its overrides included."""
        overrides = []
        for override in self.overrides:
            options = override.options
            assert options is None or isinstance(options, type(self))
            changed = options if options is None else change(options)
            overrides.append(replace(override, options=changed))
        return replace(change(self), overrides=tuple(overrides))

    def at(self, node: Node) -> Self | None:
        """This pass with the options that hold for one node; None if the node is excluded."""
        by_name = [o for o in self.overrides if o.names(node)]
        by_name.sort(key=lambda override: node.name not in override.nodes)
        by_op = [o for o in self.overrides if node.op in o.op_types]
        for override in [*by_name, *by_op]:
            assert override.options is None or isinstance(override.options, type(self))
            return override.options
        return self


EXCLUDED = "excluded by an override in the recipe"
"""The reason to give for a node where `Pass.at` is None."""


@dataclass(frozen=True, kw_only=True)
class PassReport:
    """What one pass did.

    Attributes:
        name: the pass.
        changes: recorded edits, clean-up included.
        skips: candidates left alone.
        nodes_before: nodes in all graphs before the pass; `nodes_after` likewise.
        bytes_before: bytes of stored tensors before the pass; `bytes_after` likewise.
        seconds: wall-clock time, verification included.
        verification: how the result was checked, in words.
        error: why the pass was rolled back, if it was.
    """

    name: str
    changes: tuple[Change, ...]
    skips: tuple[Skip, ...]
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    seconds: float
    verification: str
    error: str | None = None

    @property
    def modified(self) -> bool:
        """Whether the pass changed the model."""
        return bool(self.changes) and self.error is None


def is_weight(tensor: object, minimum_rank: int = 1) -> bool:
    """Whether a node input is a stored float32 tensor of at least `minimum_rank` axes."""
    return (
        isinstance(tensor, Constant)
        and tensor.dtype == np.float32
        and len(tensor.shape) >= minimum_rank
    )
