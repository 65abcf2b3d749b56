"""An ONNX graph as a differentiable function: node by node, in PyTorch.

Shapes are tensors like any other, so dynamic axes and shape arithmetic need nothing special. Nodes
that depend on stored tensors alone, none of them trained, are computed once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from onnxcompress.distillation.call import Call, Operator, UnsupportedError
from onnxcompress.distillation.operators import operator_of
from onnxcompress.distillation.values import Value, to_torch
from onnxcompress.errors import ModelError
from onnxcompress.ir.model import STANDARD, Constant, Graph, Model, Node, Tensor
from onnxcompress.ir.ops import RANDOM_OPS

Values = dict[Tensor, Value]


@dataclass(frozen=True)
class _Step:
    """A node ready to be called.

    Attributes:
        node: the node.
        function: its operator's, told of the node; None where there is none.
        dead: tensors that nothing reads after it.
    """

    node: Node
    function: Operator | None
    dead: tuple[Tensor, ...]


class Interpreter:
    """Runs a model in PyTorch.

    Args:
        model: its nodes must be sorted; it must not be edited while the interpreter is used.
        precision: what float32 is computed in; float64 to check gradients.

    Attributes:
        model: the model.
        stored: what replaces stored tensors: whoever trains puts in a tensor that requires
            gradients, and puts in a new one before each run where it is computed from others.
    """

    def __init__(self, model: Model, *, precision: torch.dtype = torch.float32):
        self.model = model
        self.precision = precision
        self.stored: dict[Constant, torch.Tensor] = {}
        self._plans: dict[tuple[str, ...], list[_Step]] = {}
        self._bodies: dict[Graph, list[_Step]] = {}
        self._constants: dict[Constant, torch.Tensor] = {}
        self._computed: Values | None = None
        self._current: Values = {}
        self._opsets = {each.domain: each.version for each in model.envelope.opset_import}
        self._tensors = {
            tensor.name: tensor
            for node in model.graph.nodes
            for tensor in node.outputs
            if tensor.name
        } | {tensor.name: tensor for tensor in model.graph.inputs}

    def unsupported(self) -> list[Node]:
        """Nodes, in bodies too, whose operator has no function; running into one raises."""
        return [node for _, node in self.model.nodes() if operator_of(node) is None]

    def run(
        self, feeds: Mapping[str, np.ndarray | Value], wanted: Sequence[str] | None = None
    ) -> dict[str, Value]:
        """Computes tensors of the main graph by name.

        Args:
            feeds: the model's inputs by name. A tensor computed inside the graph may be fed too:
                what it was computed from is then not needed.
            wanted: what to compute; the model's outputs by default. Only the nodes that these
                depend on are run.

        Raises:
            UnsupportedError: a node's operator, or the form it is used in, is not supported.
            ModelError: an input is missing or a tensor is not in the model; or a node failed.
        """
        outputs = {tensor.name: tensor for tensor in self.model.graph.outputs}
        names = tuple(outputs) if wanted is None else tuple(wanted)
        values: Values = dict(self._ahead())
        for name, feed in feeds.items():
            values[self._tensor(name)] = self._fed(feed) if isinstance(feed, np.ndarray) else feed
        for name, constant in self.model.graph.defaults.items():
            if name not in feeds:
                values[self._tensor(name)] = self._constant(constant)
        targets = [outputs[name] if name in outputs else self._tensor(name) for name in names]
        key = (*names, "", *sorted(feeds))
        if key not in self._plans:
            self._plans[key] = self._plan(self.model.graph, targets, values)
        self._execute(self._plans[key], values)
        return {
            name: self._read(tensor, values) for name, tensor in zip(names, targets, strict=True)
        }

    def forget_computed(self) -> None:
        """Makes the next run compute anew what depends on stored tensors alone."""
        self._computed = None
        self._plans.clear()

    def _fed(self, feed: np.ndarray) -> torch.Tensor:
        """A feed; float32 images [N, C, H, W] lie in memory as [N, H, W, C].

        Convolutions run up to twice as fast so, and what follows them keeps the order.
        """
        tensor = to_torch(feed, self.precision)
        if tensor.ndim == 4 and tensor.dtype == torch.float32:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise ModelError(f"the model has no tensor {name!r} in its main graph")
        return self._tensors[name]

    def _ahead(self) -> Values:
        """Values of nodes that read only what is stored and not trained."""
        if self._computed is None:
            self._computed = {}
            with torch.no_grad():
                for node in self.model.graph.nodes:
                    if operator_of(node) is not None and self._is_settled(node, self._computed):
                        self._execute([_Step(node, self._function(node), ())], self._computed)
        return self._computed

    def _is_settled(self, node: Node, known: Mapping[Tensor, Value]) -> bool:
        if node.op in RANDOM_OPS or any(True for _ in node.bodies()) or not node.inputs:
            return False
        return all(
            tensor not in self.stored if isinstance(tensor, Constant) else tensor in known
            for tensor in node.inputs
            if tensor.name
        )

    def _plan(
        self, graph: Graph, targets: Iterable[Tensor], known: Collection[Tensor]
    ) -> list[_Step]:
        """The nodes that targets depend on, each with what is not needed after it.

        What a body captures from around it is not the body's to drop.
        """
        own = {tensor for node in graph.nodes for tensor in node.outputs}
        own.update(graph.inputs)
        alive: set[Tensor] = set(targets)
        needed = alive - set(known)
        steps: list[_Step] = []
        for node in reversed(graph.nodes):
            if needed.isdisjoint(node.outputs):
                continue
            reads = dict.fromkeys(_reads(node))
            dead = [each for each in (*reads, *node.outputs) if each in own and each not in alive]
            alive.update(dead)
            needed.update(each for each in reads if each not in known)
            dropped = tuple(each for each in dead if each not in known)
            steps.append(_Step(node, self._function(node), dropped))
        return steps[::-1]

    def _function(self, node: Node) -> Operator | None:
        function = operator_of(node)
        if function is None:
            return None
        domain = node.domain if node.domain in self._opsets or node.domain not in STANDARD else ""
        opset = self.model.opset if domain in STANDARD else self._opsets.get(domain, 1)
        return partial(function, Call(node, opset, self.precision, self._run_body))

    def _run_body(self, graph: Graph, inputs: Sequence[Value]) -> list[Value]:
        """Runs a body on its inputs, beside the values of the run under way."""
        values = self._current
        values.update(zip(graph.inputs, inputs, strict=True))
        if graph not in self._bodies:
            self._bodies[graph] = self._plan(graph, graph.outputs, graph.inputs)
        self._execute(self._bodies[graph], values)
        return [self._read(tensor, values) for tensor in graph.outputs]

    def _execute(self, steps: Sequence[_Step], values: Values) -> None:
        self._current = values
        for step in steps:
            node = step.node
            if step.function is None:
                domain = f"{node.domain}." if node.domain not in STANDARD else ""
                raise UnsupportedError(
                    f"node {node.name!r}: operator {domain}{node.op} cannot be differentiated here"
                )
            inputs = [self._read(tensor, values) for tensor in node.inputs]
            try:
                found = step.function(*inputs)
            except (ModelError, AssertionError):
                raise
            except Exception as fault:
                raise ModelError(
                    f"node {node.name!r} ({node.op}) failed in PyTorch: {fault}"
                ) from fault
            outputs = found if isinstance(found, tuple) else (found,)
            for tensor, value in zip(node.outputs, outputs, strict=False):
                if tensor.name:
                    values[tensor] = value
            for tensor in step.dead:
                values.pop(tensor, None)

    def _read(self, tensor: Tensor, values: Values) -> Value:
        if isinstance(tensor, Constant):
            return self.stored[tensor] if tensor in self.stored else self._constant(tensor)
        if not tensor.name:
            return None
        if tensor not in values:
            raise ModelError(f"tensor {tensor.name!r} is needed, but is not computed or fed")
        return values[tensor]

    def _constant(self, constant: Constant) -> torch.Tensor:
        if constant not in self._constants:
            self._constants[constant] = to_torch(constant.values, self.precision)
        return self._constants[constant]


def _reads(node: Node) -> list[Tensor]:
    """What a node and the bodies it holds read."""
    nodes = [node, *node.inner_nodes()]
    found = [tensor for each in nodes for tensor in each.inputs]
    bodies = [body for each in nodes for body in each.bodies()]
    return [*found, *(tensor for body in bodies for tensor in body.outputs)]
