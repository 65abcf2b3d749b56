"""What a torch model in the table is, what it reads, and who exports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from torch import nn

from .randomize import randomize

Array = np.ndarray


class Exporter(Enum):
    """A way from torch to ONNX; each leaves another graph of one and the same module."""

    TRACED = "traced"
    TRACED_UNFOLDED = "traced-unfolded"
    DYNAMO = "dynamo"
    DYNAMO_UNOPTIMIZED = "dynamo-unoptimized"

    @property
    def dynamo(self) -> bool:
        """Whether it is `torch.onnx.export(dynamo=True)`."""
        return self in (Exporter.DYNAMO, Exporter.DYNAMO_UNOPTIMIZED)


@dataclass(frozen=True)
class Input:
    """An input of `forward`.

    Attributes:
        name: of the argument.
        shape: lengths; a name stands for an axis that the export leaves open.
        tokens: integers below this number; 0 for normal float32 values.
        mask: whether it holds 1 for what counts, then 0 for padding.
    """

    name: str
    shape: tuple[int | str, ...]
    tokens: int = 0
    mask: bool = False

    @property
    def open_axes(self) -> dict[int, str]:
        """The axes without a fixed length, and what they are called."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}

    def sample(self, sizes: Mapping[str, int], rng: np.random.Generator) -> Array:
        """Random values, with these lengths for the open axes."""
        shape = [sizes[size] if isinstance(size, str) else size for size in self.shape]
        if self.mask:
            lengths = rng.integers(shape[1] // 2, shape[1] + 1, shape[0])
            return (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
        if self.tokens:
            return rng.integers(0, self.tokens, shape)
        return rng.standard_normal(shape).astype(np.float32)


IMAGE = Input("image", ("batch", 3, 16, 16))


@dataclass(frozen=True)
class Architecture:
    """A family of models, with tiny widths.

    Attributes:
        name: what tests are called after it.
        create: makes the module.
        inputs: in the order of `forward`'s arguments.
        refused: exporters that cannot take the module, with what they say.
    """

    name: str
    create: Callable[[], nn.Module]
    inputs: tuple[Input, ...] = (IMAGE,)
    refused: Mapping[Exporter, str] = field(default_factory=dict)

    def module(self) -> nn.Module:
        """The module in evaluation mode; the same random weights at each call."""
        return randomize(self.create()).eval()

    def feeds(self, batch: int, *, sequence: int = 7, seed: int = 0) -> dict[str, Array]:
        """Seeded inputs by name."""
        rng = np.random.default_rng(seed)
        sizes = {"batch": batch, "sequence": sequence}
        return {each.name: each.sample(sizes, rng) for each in self.inputs}
