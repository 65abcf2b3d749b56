"""Merges stored tensors that hold the same values and nodes that compute the same thing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node
from onnxcompress.ir.ops import RANDOM_OPS
from onnxcompress.pass_base import EXCLUDED, Context, Pass


@dataclass(frozen=True, kw_only=True)
class MergeDuplicates(Pass):
    """f(x), f(x)  ->  f(x), read twice; equal stored tensors likewise.

    Stored tensors are equal if their bytes are: 0.0 and -0.0 stay apart. Nodes are compared within
    one graph: an If branch must not compute what only it needs elsewhere. Nodes that hold graphs
    are not compared.
    """

    name: ClassVar[str] = "merge-duplicates"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        self._merge_constants(model, edit)
        for graph in model.graphs():
            seen: dict[Hashable, Node] = {}
            for node in list(graph.nodes):
                if any(True for _ in node.bodies()):
                    continue
                first = seen.setdefault(_meaning(node), node)
                if first is node:
                    continue
                if self.at(node) is None:
                    edit.skip(node, EXCLUDED)
                elif reason := _unmergeable(model, first, node):
                    edit.skip(node, reason)
                else:
                    for old, new in zip(node.outputs, first.outputs, strict=True):
                        edit.redirect(old, new)
                    edit.remove(node)

    def _merge_constants(self, model: Model, edit: Editor) -> None:
        alike: dict[Hashable, list[Constant]] = defaultdict(list)
        graph_of = {node: graph for graph, node in model.nodes()}
        for constant in model.constants():
            if not constant.size:
                continue  # saves nothing, and onnxruntime before 1.28 loads no two Adds of one
            # onnxruntime 1.31 wants what a DequantizeLinear reads stored in the same graph.
            readers = [r for r in query.consumers(constant) if r.op == "DequantizeLinear"]
            graphs = frozenset(graph_of[reader] for reader in readers)
            alike[constant.dtype.name, constant.shape, graphs].append(constant)
        for constants in alike.values():
            if len(constants) == 1:
                continue
            constants.sort(key=model.is_output, reverse=True)  # an output keeps its name
            firsts: dict[bytes, Constant] = {}
            for constant in constants:
                first = firsts.setdefault(_digest(constant.values), constant)
                for node in query.consumers(constant) if first is not constant else ():
                    if self.at(node) is None:
                        edit.skip(node, EXCLUDED)
                        continue
                    for index, tensor in enumerate(list(node.inputs)):
                        if tensor is constant:
                            detail = f"{constant.name} equals {first.name}"
                            edit.set_input(node, index, first, detail)


def _unmergeable(model: Model, first: Node, node: Node) -> str | None:
    """Why two nodes that read alike stay two; None if one will do."""
    if node.domain not in STANDARD:
        return f"equals {first.name}, but domain {node.domain!r} may have state"
    if node.op in RANDOM_OPS or (node.op == "Dropout" and query.has_input(node, 2)):
        return f"equals {first.name}, but gives other values at each call"
    for old, new in zip(node.outputs, first.outputs, strict=True):
        if model.is_output(old) and model.is_output(new):
            return f"equals {first.name}, but a graph returns both"
    return None


def _digest(values: np.ndarray) -> bytes:
    if values.dtype.kind == "O":
        return repr(values.tolist()).encode()
    return hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).digest()


def _meaning(node: Node) -> Hashable:
    """What a node computes: equal for two nodes exactly if their outputs are."""
    attrs = sorted(
        (name, value.SerializeToString(deterministic=True))
        for name, value in node.attrs.items()
        if isinstance(value, onnx.AttributeProto)
    )
    inputs = tuple(tensor if tensor.name else None for tensor in node.inputs)
    present = tuple(bool(output.name) for output in node.outputs)
    return node.domain, node.op, tuple(attrs), inputs, present
