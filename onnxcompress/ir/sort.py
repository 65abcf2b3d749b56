"""Topological order that moves as little as it can."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from onnxcompress.errors import ModelError
from onnxcompress.ir.model import Graph, Node, Tensor


def sort(graph: Graph) -> None:
    """Orders a graph's nodes, and those of its bodies, so that producers come first.

    Kahn's algorithm with the present position as priority: a valid order stays exactly as it is.

    Raises:
        ModelError: the nodes form a cycle; names one node on it.
    """
    position = {node: index for index, node in enumerate(graph.nodes)}
    waiting_for: dict[Node, int] = {}
    dependents: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for node in graph.nodes:
        producers = {p for tensor in _reads(node) for p in tensor.inputs if p in position}
        waiting_for[node] = len(producers)
        for producer in producers:
            dependents[producer].append(node)
    ready = [position[node] for node, missing in waiting_for.items() if missing == 0]
    heapq.heapify(ready)
    ordered: list[Node] = []
    while ready:
        node = graph.nodes[heapq.heappop(ready)]
        ordered.append(node)
        for dependent in dependents[node]:
            waiting_for[dependent] -= 1
            if waiting_for[dependent] == 0:
                heapq.heappush(ready, position[dependent])
    if len(ordered) != len(graph.nodes):
        stuck = _on_cycle({node: None for node, missing in waiting_for.items() if missing})
        raise ModelError(f"the graph has a cycle through node {stuck.name!r} ({stuck.op})")
    graph.nodes[:] = ordered
    for node in graph.nodes:
        for body in node.bodies():
            sort(body)


def _on_cycle(waiting: dict[Node, None]) -> Node:
    """A node that waits for itself: going back from any waiting node must end in a cycle."""
    node = next(iter(waiting))
    passed: set[Node] = set()
    while node not in passed:
        passed.add(node)
        node = next(p for tensor in _reads(node) for p in tensor.inputs if p in waiting)
    return node


def _reads(node: Node) -> Iterator[Tensor]:
    """The tensors a node needs: its inputs, and whatever its bodies capture."""
    yield from node.inputs
    for body in node.bodies():
        yield from body.outputs
        for inner in body.nodes:
            yield from _reads(inner)
