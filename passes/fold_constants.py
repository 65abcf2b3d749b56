"""Computes what depends on stored tensors alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Variable
from onnxcompress.ir.ops import CONTROL_FLOW_OPS, RANDOM_OPS
from onnxcompress.ir.query import is_omitted
from onnxcompress.pass_base import EXCLUDED, Context, Pass

_NEVER = RANDOM_OPS | CONTROL_FLOW_OPS | {"DequantizeLinear", "QuantizeLinear"}
"""What must stay a node: weights kept as integers are dequantized by one on purpose."""


@dataclass(frozen=True, kw_only=True)
class FoldConstants(Pass):
    """Add(2, 3)  ->  5, stored.

    Whole chains are computed at once, by onnxruntime. A chain whose result would take more than
    `max_growth` bytes beyond the stored tensors it replaces stays as it is.

    Attributes:
        max_growth: bytes that folding one tensor may add to the file.
    """

    name: ClassVar[str] = "fold-constants"
    exact: ClassVar[bool] = True

    max_growth: int = 64 << 10

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        chain = self._foldable(model, edit)
        values = context.evaluate(model, chain)
        inside = set(chain)
        for node in reversed(chain):  # last first: what a folded tensor replaces is then unused
            for output in node.outputs:
                outside = [r for r in query.consumers(output) if r not in inside]
                if not outside or output.name not in values:
                    continue
                value = values[output.name]
                growth = value.nbytes - _replaced_bytes(node)
                options = self.at(node)
                if options is None:
                    edit.skip(node, EXCLUDED)
                elif growth > options.max_growth:
                    reason = f"would add {growth} bytes > max_growth={options.max_growth}"
                    edit.skip(node, reason)
                elif model.is_output(output):
                    edit.skip(node, f"a graph returns {output.name!r}")
                else:
                    _store(edit, output, edit.constant(f"{output.name}_value", value), outside)

    def _foldable(self, model: Model, edit: Editor) -> Sequence[Node]:
        """Nodes that read stored tensors and each other, in execution order."""
        known: set[Variable] = set()
        chain: list[Node] = []
        for node in query.nodes(model):
            given = [tensor for tensor in node.inputs if not is_omitted(tensor)]
            computed = [t for t in given if isinstance(t, Variable)]
            if not given or any(tensor not in known for tensor in computed):
                continue
            if node.op in _NEVER or node.domain:
                if node.domain:
                    edit.skip(node, f"domain {node.domain!r} is not the standard operator set")
                continue
            known.update(node.outputs)
            chain.append(node)
        return chain


def _store(edit: Editor, output: Variable, constant: Constant, readers: Sequence[Node]) -> None:
    for reader in readers:
        for index, tensor in enumerate(list(reader.inputs)):
            if tensor is output:
                edit.set_input(reader, index, constant, f"{output.name} computed")


def _replaced_bytes(node: Node) -> int:
    """Bytes of the stored tensors that only this node, and those before it, read."""
    waiting, seen = [node], {node}
    total = 0
    while waiting:
        for tensor in waiting.pop().inputs:
            if isinstance(tensor, Constant):
                total += tensor.nbytes if len(tensor.outputs) == 1 else 0
            elif tensor.inputs and tensor.inputs[0] not in seen:
                seen.add(tensor.inputs[0])
                waiting.append(tensor.inputs[0])
    return total
