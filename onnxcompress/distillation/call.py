"""What an operator's function is told besides its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch

from onnxcompress.distillation.values import Value, torch_type
from onnxcompress.errors import ModelError
from onnxcompress.ir import query
from onnxcompress.ir.model import Graph, Node

RunBody = Callable[[Graph, Sequence[Value]], list[Value]]
"""Runs a body on its inputs and gives its outputs."""


class UnsupportedError(ModelError):
    """A graph asks for what has no counterpart in PyTorch here; names the node."""


@dataclass(frozen=True)
class Call:
    """One call of an operator.

    Attributes:
        node: its attributes are what the function reads.
        opset: version of the node's operator set.
        precision: the torch type that stands for float32.
        run_body: runs a graph that the node holds.
    """

    node: Node
    opset: int
    precision: torch.dtype
    run_body: RunBody = field(repr=False)

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self.node.attrs

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return self.node.int_attr(name, default)

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """An attribute of several integers."""
        return self.node.ints_attr(name, default)

    def real(self, name: str, default: float) -> float:
        """A float attribute."""
        return self.node.float_attr(name, default)

    def reals(self, name: str) -> tuple[float, ...]:
        """An attribute of several floats; empty if it is not given."""
        value = self.node.attrs.get(name)
        return tuple(value.floats) if isinstance(value, onnx.AttributeProto) else ()

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        return self.node.text_attr(name, default)

    def texts(self, name: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """An attribute of several texts."""
        value = self.node.attrs.get(name)
        if not isinstance(value, onnx.AttributeProto):
            return tuple(default)
        return tuple(each.decode() for each in value.strings)

    def array(self, name: str) -> np.ndarray | None:
        """A tensor attribute, or None."""
        return query.tensor_attribute(self.node, name)

    def type(self, name: str, default: onnx.TensorProto.DataType) -> torch.dtype:
        """An attribute that names an element type, as what carries it."""
        return torch_type(self.integer(name, default), self.precision)

    def body(self, name: str) -> Graph:
        """A graph that the node holds."""
        graph = self.node.attrs[name]
        assert isinstance(graph, Graph)
        return graph

    def outputs(self) -> int:
        """How many outputs are asked for, up to the last one that has a name."""
        names = [output.name for output in self.node.outputs]
        return max((at + 1 for at, name in enumerate(names) if name), default=0)

    def unsupported(self, what: str) -> UnsupportedError:
        """The error for a form of the operator that is not built.

        Args:
            what: completes "node 'n' (Op): ...".
        """
        return UnsupportedError(f"node {self.node.name!r} ({self.node.op}): {what}")


Operator = Callable[..., Value | tuple[Value, ...]]
"""Called with a `Call` and the node's inputs, None for those omitted; gives its outputs.

One output may come bare. A function may give fewer outputs than the node names only if the rest are
not asked for.
"""

Table = dict[str, Operator]
"""Functions by operator name; `domain::name` outside the standard set."""
