"""What an architecture in the zoo is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.zoo.inputs import Array, Input
from benchmarks.zoo.modules.randomize import randomize

SIZES: Final = {"batch": 2, "sequence": 12, "past": 5, "total": 17}
"""Lengths of open axes, in examples to export with and in samples; total = past + sequence."""

VOCABULARY: Final = 500

IDS: Final = Input("input_ids", ("batch", "sequence"), tokens=VOCABULARY)
MASK: Final = Input("attention_mask", ("batch", "sequence"), mask=True)
PIXELS: Final = Input("pixel_values", ("batch", 3, 64, 64))


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """An architecture, with small widths.

    Attributes:
        name: what files and rows are called after.
        family: the heading it stands under.
        create: makes the module; `forward` takes the inputs in order and gives one or more tensors.
        inputs: in the order of `forward`'s arguments.
        outputs: names, in the order of what `forward` gives.
    """

    name: str
    family: str
    create: Callable[[], nn.Module]
    inputs: tuple[Input, ...] = (PIXELS,)
    outputs: tuple[str, ...] = ("logits",)

    def module(self) -> nn.Module:
        """The module in evaluation mode; the same random weights at each call."""
        torch.manual_seed(0)
        return randomize(self.create()).eval()

    def feeds(self, batch: int, seed: int = 0) -> dict[str, Array]:
        """Seeded inputs by name."""
        rng = np.random.default_rng(seed)
        sizes = {**SIZES, "batch": batch}
        return {each.name: each.sample(sizes, rng) for each in self.inputs}


@dataclass(frozen=True, kw_only=True)
class FromConfig:
    """Makes a model of transformers from a configuration, as a module over plain tensors.

    Attributes:
        model: the name of its class.
        config: arguments of its configuration.
        inputs: names of `forward`'s arguments.
        outputs: names of what it returns.
        options: other arguments of `forward`.
        within: the name and arguments of a configuration that `config` takes as its backbone.
    """

    model: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    within: tuple[str, Mapping[str, Any]] | None = None

    def __call__(self) -> nn.Module:
        """The module."""
        import transformers

        kind = getattr(transformers, self.model)
        config = dict(self.config)
        if self.within is not None:
            name, arguments = self.within
            config["backbone_config"] = getattr(transformers, name)(**arguments)
        return _Plain(kind(kind.config_class(**config)), self)


class _Plain(nn.Module):
    """Takes tensors one by one and gives a tuple of them, as exporters like it."""

    def __init__(self, inner: nn.Module, made: FromConfig):
        super().__init__()
        self.inner = inner
        self.made = made

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs that are named."""
        given = dict(zip(self.made.inputs, tensors, strict=True))
        found = self.inner(**given, **self.made.options)
        return tuple(found[name] for name in self.made.outputs)


def from_config(
    name: str,
    model: str,
    inputs: tuple[Input, ...],
    outputs: tuple[str, ...] | str,
    /,
    *,
    family: str,
    options: Mapping[str, Any] | None = None,
    within: tuple[str, Mapping[str, Any]] | None = None,
    **config: Any,
) -> Specimen:
    """A model of transformers; see `FromConfig`."""
    outputs = (outputs,) if isinstance(outputs, str) else outputs
    create = FromConfig(
        model=model,
        config=config,
        inputs=tuple(each.name for each in inputs),
        outputs=outputs,
        options=options or {},
        within=within,
    )
    return Specimen(name=name, family=family, create=create, inputs=inputs, outputs=outputs)
