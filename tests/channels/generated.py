"""Random small networks: any sequence of these layers is a graph that onnxruntime takes.

A network is a list of layer names, each with a number from which the layer takes its choices, so
Hypothesis shrinks a failing one to the few layers that matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray
T = TypeVar("T")

OPSET = 21
_WIDEST = 24
_LARGEST = 12


@dataclass(frozen=True)
class Map:
    """A float tensor of shape (N, channels, height, width)."""

    name: str
    channels: int
    height: int
    width: int

    def like(self, other: Map) -> bool:
        return replace(self, name="") == replace(other, name="")

    def aligned(self, other: Map) -> bool:
        return (self.height, self.width) == (other.height, other.width)


class Choices:
    """Small decisions read off one number; 0 takes the first option every time."""

    def __init__(self, number: int):
        self._number = number

    def pick(self, options: Sequence[T]) -> T:
        self._number, index = divmod(self._number, len(options))
        return options[index]

    def yes(self) -> bool:
        return self.pick((False, True))


class Builder:
    """A graph as it grows: nodes, seeded weights, and the maps that later layers may read."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.maps = [Map("x", 3, 6, 6)]

    @property
    def now(self) -> Map:
        return self.maps[-1]

    def push(self, name: str, channels: int, height: int, width: int) -> None:
        self.maps.append(Map(name, channels, height, width))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output, which is returned."""
        return self.split(op, 1, *inputs, **attributes)[0]

    def split(self, op: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node of several outputs."""
        names = [f"t{len(self.nodes)}_{index}" for index in range(count)]
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names

    def stored(self, values: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(values)
        return name

    def shape(self, *values: int) -> str:
        return self.stored(np.array(values, np.int64))

    def weight(self, *shape: int, fan: int) -> str:
        scale = (2 / fan) ** 0.5
        return self.stored((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def vector(self, *shape: int, low: float = -0.6, high: float = 0.6) -> str:
        return self.stored(self.rng.uniform(low, high, shape).astype(np.float32))

    def scale(self, *shape: int) -> str:
        return self.vector(*shape, low=0.4, high=1.4)

    def conv(
        self, source: Map, outer: int, *, size: int = 1, groups: int = 1, bias: bool = True
    ) -> str:
        """A convolution that keeps height and width."""
        inner = source.channels // groups
        weight = self.weight(outer, inner, size, size, fan=inner * size * size)
        biases = [self.vector(outer)] if bias else []
        pads = [size // 2] * 4
        return self.node("Conv", source.name, weight, *biases, group=groups, pads=pads)

    def finish(self, results: Sequence[str]) -> onnx.ModelProto:
        """The model from `x` to these results."""
        graph = helper.make_graph(
            self.nodes,
            "generated",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 6, 6])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
            [numpy_helper.from_array(values, name) for name, values in self.weights.items()],
        )
        return helper.make_model(
            graph, ir_version=10, opset_imports=[helper.make_opsetid("", OPSET)]
        )


def room_for(channels: int) -> bool:
    """Whether so many channels keep the network small."""
    return channels <= _WIDEST


def grows(height: int) -> bool:
    """Whether twice the height keeps the network small."""
    return 2 * height <= _LARGEST
