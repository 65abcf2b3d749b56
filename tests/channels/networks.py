"""The strategy that draws generated networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from hypothesis import strategies as st

from .generated import Builder, Choices
from .layers import HEADS, LAYERS

Array = np.ndarray


@dataclass(frozen=True)
class Network:
    """What Hypothesis draws and, when a test fails, prints.

    Attributes:
        layers: names with the number that each takes its choices from.
        head: index of the head, and its choices.
        second_output: whether the graph also returns the map halfway.
        seed: of the weights.
    """

    layers: tuple[tuple[str, int], ...]
    head: tuple[int, int] = (0, 0)
    second_output: bool = False
    seed: int = 0

    def proto(self) -> onnx.ModelProto:
        """The network as a model from float32 x (N, 3, 6, 6)."""
        build = Builder(self.seed)
        for name, number in (("conv", 0), *self.layers):
            LAYERS[name](build, Choices(number))
        index, number = self.head
        results = [HEADS[index](build, Choices(number))]
        if self.second_output:
            results.append(build.node("Identity", build.maps[(len(build.maps) + 1) // 2].name))
        return build.finish(results)

    def feeds(self, batch: int) -> dict[str, Array]:
        """Seeded inputs."""
        rng = np.random.default_rng(self.seed)
        return {"x": rng.standard_normal((batch, 3, 6, 6)).astype(np.float32)}


_NUMBERS = st.integers(0, 999)

networks = st.builds(
    Network,
    layers=st.lists(
        st.tuples(st.sampled_from(sorted(LAYERS)), _NUMBERS), min_size=1, max_size=7
    ).map(tuple),
    head=st.tuples(st.integers(0, len(HEADS) - 1), _NUMBERS),
    second_output=st.integers(0, 4).map(lambda number: number == 4),
    seed=st.integers(0, 99),
)
