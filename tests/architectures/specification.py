"""What a torch model in the table is, what it reads, and who exports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from torch import nn

from benchmarks.zoo.inputs import Array, Input
from benchmarks.zoo.modules.randomize import randomize


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
