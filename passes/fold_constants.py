"""Computes what depends on stored tensors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.errors import ResourceError, SessionError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Graph, Model, Node, Variable
from onnxcompress.ir.ops import CONTROL_FLOW_OPS, RANDOM_OPS
from onnxcompress.pass_base import EXCLUDED, Context, Pass

_Values = Mapping[Variable, np.ndarray]
_Reasons = Mapping[Node, str]

_NEVER = {
    **dict.fromkeys(RANDOM_OPS, "gives other values at each run"),
    **dict.fromkeys(CONTROL_FLOW_OPS, "holds graphs"),
    "DequantizeLinear": "keeps a stored tensor small on purpose",
}
"""Operators that stay nodes whatever they read, with the reason."""


@dataclass(frozen=True, kw_only=True)
class FoldConstants(Pass):
    """Add(2, 3)  ->  5, stored.

    Whole chains are computed at once, by onnxruntime. What would make the file grow by more than
    `max_growth` bytes in all, the stored tensors that go counted against it, stays as it is. Of
    training with quantization a float weight and its QuantizeLinear become the integers.

    Attributes:
        max_growth: bytes that folding may add to the file; small enough to leave packed weights
            alone, which onnxruntime unpacks by a chain of such nodes when the session loads.
    """

    name: ClassVar[str] = "fold-constants"
    exact: ClassVar[bool] = True

    max_growth: int = 2 << 10

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        chain = self._chain(model, edit)
        values, refused = _evaluate(model, chain, context)
        inside = set(chain)
        grown = 0
        for node in reversed(chain):  # last first: what a folded node read is then unused
            readers = {o: [r for r in query.consumers(o) if r not in inside] for o in node.outputs}
            returned = any(model.is_output(output) for output in node.outputs)
            if not returned and not any(readers.values()):
                continue
            reason = (
                "a graph returns its result"
                if returned
                else refused.get(node) or _unfit(node, values)
            )
            if reason is None:
                growth = _added_bytes(node, values) - _freed_bytes(model, node)
                reason = self._over_limit(node, grown, growth)
            if reason is None:
                grown += growth
                for output in filter(readers.get, node.outputs):
                    constant = edit.constant(f"{output.name}_value", values[output])
                    _store(edit, output, constant, readers[output])
            else:
                edit.skip(node, reason)
                inside.discard(node)  # it stays and reads; what it reads can still be stored

    def _chain(self, model: Model, edit: Editor) -> Sequence[Node]:
        """Nodes that read stored tensors and each other, in execution order."""
        known: set[Variable] = set()
        chain: list[Node] = []
        for node in query.nodes(model):
            given = [tensor for tensor in node.inputs if not query.is_omitted(tensor)]
            computed = [tensor for tensor in given if isinstance(tensor, Variable)]
            if not given or any(tensor not in known for tensor in computed):
                continue
            if node.domain not in STANDARD:
                edit.skip(node, f"domain {node.domain!r} is not the standard operator set")
            elif node.op in _NEVER:
                edit.skip(node, _NEVER[node.op])
            elif node.op == "Dropout" and query.has_input(node, 2):
                edit.skip(node, "may drop at random")
            elif self.at(node) is None:
                edit.skip(node, EXCLUDED)
            else:
                known.update(node.outputs)
                chain.append(node)
        return chain

    def _over_limit(self, node: Node, grown: int, growth: int) -> str | None:
        options = self.at(node)
        assert options is not None
        if growth <= 0 or grown + growth <= options.max_growth:
            return None
        before = f" to {grown}" if grown > 0 else ""
        return f"would add {growth} bytes{before} > max_growth={options.max_growth}"


def _unfit(node: Node, values: _Values) -> str | None:
    """Why a node's results cannot be stored; None if they can."""
    results = [values.get(output) for output in node.outputs if output.outputs]
    if any(result is None for result in results):
        return "onnxruntime cannot compute it alone"
    if any(result is not None and not _is_tensor(result) for result in results):
        return "its result is no tensor"
    return None


def _added_bytes(node: Node, values: _Values) -> int:
    return sum(values[output].nbytes for output in node.outputs if output.outputs)


def _evaluate(model: Model, chain: Sequence[Node], context: Context) -> tuple[_Values, _Reasons]:
    """The value of each output, as far as onnxruntime can compute it, and what is too large.

    One graph at a time, since the branches of an If may use one name for two tensors.
    """
    graph_of = {node: graph for graph, node in model.nodes()}
    around = _enclosing(model)
    values: dict[Variable, np.ndarray] = {}
    refused: dict[Node, str] = {}
    for graph in dict.fromkeys(graph_of[node] for node in chain):
        visible = [node for node in chain if graph_of[node] in (graph, *around[graph])]
        found: Mapping[str, np.ndarray] = {}
        try:
            found = context.evaluate(model, visible)
        except (SessionError, ResourceError):
            good: list[Node] = []
            for node in visible:  # one node without a kernel must not keep the others
                try:
                    found = context.evaluate(model, [*good, node])
                except SessionError:
                    continue
                except ResourceError as fault:
                    refused[node] = str(fault)
                    continue
                good.append(node)
        for node in visible:
            values.update((o, found[o.name]) for o in node.outputs if o.name in found)
    return values, refused


def _enclosing(model: Model) -> Mapping[Graph, tuple[Graph, ...]]:
    """The graphs around each graph."""
    around: dict[Graph, tuple[Graph, ...]] = {model.graph: ()}
    for graph, node in model.nodes():
        around.update((body, (graph, *around[graph])) for body in node.bodies())
    return around


def _is_tensor(value: np.ndarray) -> bool:
    """Whether a result is an array that ONNX stores, not a sequence or an empty optional."""
    return value.dtype.kind != "O" or all(isinstance(item, str) for item in value.flat)


def _store(edit: Editor, output: Variable, constant: Constant, readers: Sequence[Node]) -> None:
    for reader in readers:
        for index, tensor in enumerate(list(reader.inputs)):
            if tensor is output:
                edit.set_input(reader, index, constant, f"{output.name} computed")


def _freed_bytes(model: Model, node: Node) -> int:
    """Bytes of stored tensors that nothing reads any more once `node` is gone."""
    gone, waiting = {node}, [node]

    def is_read(tensor: Variable | Constant) -> bool:
        return bool(tensor.outputs) or model.is_output(tensor)

    def is_idle(tensor: Variable | Constant) -> bool:
        live = (r for r in tensor.outputs if r not in gone and any(map(is_read, r.outputs)))
        return not any(live) and not model.is_output(tensor)

    freed: set[Constant] = set()
    while waiting:
        for tensor in waiting.pop().inputs:
            if isinstance(tensor, Constant):
                if is_idle(tensor):
                    freed.add(tensor)
            elif tensor.inputs and tensor.inputs[0] not in gone:
                producer = tensor.inputs[0]
                if all(is_idle(output) for output in producer.outputs):
                    gone.add(producer)
                    waiting.append(producer)
    return sum(constant.nbytes for constant in freed)
