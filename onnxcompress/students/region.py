"""Following what is made of a tensor to where all of it comes together again."""

from __future__ import annotations

from collections.abc import Callable

from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node, Tensor, Variable

Allowed = Callable[[Node], bool]
"""Whether a node may stand between a tensor and where its readers come together."""


class Regions:
    """Regions of a model's main graph with one way in and one way out.

    Args:
        model: must not change meanwhile.
    """

    def __init__(self, model: Model):
        self._model = model
        self.position = {node: place for place, node in enumerate(model.graph.nodes)}

    def exits(self, tensor: Variable, allowed: Allowed) -> list[tuple[Variable, list[Node]]]:
        """Tensors that carry on all that is made of another one, the nearest first.

        Args:
            tensor: of the main graph.
            allowed: of nodes that read nothing but `tensor`, what is made of it and what is stored.

        Returns:
            Each with the nodes between, in order.
        """
        inside: set[Tensor] = {tensor}
        escaping: set[Tensor] = {tensor}
        taken: dict[Node, None] = {}
        found = []
        while (node := self._next(inside, taken, allowed)) is not None:
            taken[node] = None
            inside.update(node.outputs)
            escaping.update(node.outputs)
            escaping = {each for each in escaping if self._is_read_outside(each, taken)}
            if escaping == {node.outputs[0]}:
                found.append((node.outputs[0], sorted(taken, key=self.position.__getitem__)))
        return found

    def between(self, start: Tensor, end: Tensor) -> list[Node]:
        """Nodes through which values of one tensor reach another, in order.

        Nodes that read nothing but shapes pass no values on.
        """
        writer = query.producer(start)
        first = -1 if writer is None else self.position.get(writer, len(self.position))
        before: set[Node] = set()
        waiting = [query.producer(end)]
        while waiting:
            node = waiting.pop()
            if node is None or node in before or self.position.get(node, -1) <= first:
                continue
            before.add(node)
            if node.op not in BLIND:
                waiting.extend(query.producer(each) for each in node.inputs)
        reached: set[Tensor] = {start}
        path = []
        for node in sorted(before, key=self.position.__getitem__):
            if node.op not in BLIND and not reached.isdisjoint(node.inputs):
                reached.update(node.outputs)
                path.append(node)
        return path if end in reached else []

    def fed(self) -> set[Tensor]:
        """Tensors whose values come from the model's inputs, and so have their batch axis.

        What is stored, or made from lengths alone, is the same for all samples.
        """
        found: set[Tensor] = set(self._model.graph.inputs)
        for node in self._model.graph.nodes:
            read = {tensor for each in (node, *node.inner_nodes()) for tensor in each.inputs}
            if node.op not in BLIND and not found.isdisjoint(read):
                found.update(node.outputs)
        return found

    def _next(self, inside: set[Tensor], taken: dict[Node, None], allowed: Allowed) -> Node | None:
        ready = {
            node
            for tensor in inside
            for node in tensor.outputs
            if node not in taken
            and node in self.position
            and not any(node.bodies())
            and all(_is_free(each) or each in inside for each in node.inputs)
            and allowed(node)
        }
        return min(ready, key=self.position.__getitem__, default=None)

    def _is_read_outside(self, tensor: Tensor, taken: dict[Node, None]) -> bool:
        return self._model.is_output(tensor) or any(node not in taken for node in tensor.outputs)


BLIND = frozenset({"Shape", "Size"})
"""Operators that do not look at values."""


def _is_free(tensor: Tensor) -> bool:
    return isinstance(tensor, Constant) or query.is_omitted(tensor)
