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
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import RANDOM_OPS
from onnxcompress.pass_base import EXCLUDED, Context, Pass


@dataclass(frozen=True, kw_only=True)
class MergeDuplicates(Pass):
    """f(x), f(x)  ->  f(x), read twice; equal stored tensors likewise.

    Nodes are compared within one graph: an If branch must not compute what only it needs elsewhere.
    """

    name: ClassVar[str] = "merge-duplicates"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        _merge_constants(model, edit)
        for graph in model.graphs():
            seen: dict[Hashable, Node] = {}
            for node in list(graph.nodes):
                if node.op in RANDOM_OPS or any(True for _ in node.bodies()):
                    continue
                first = seen.setdefault(_meaning(node), node)
                if first is node:
                    continue
                if self.at(node) is None:
                    edit.skip(node, EXCLUDED)
                elif any(model.is_output(output) for output in node.outputs):
                    edit.skip(node, f"equals {first.name} but is itself returned by a graph")
                else:
                    for old, new in zip(node.outputs, first.outputs, strict=True):
                        edit.redirect(old, new)
                    edit.remove(node)


def _merge_constants(model: Model, edit: Editor) -> None:
    groups: dict[Hashable, list[Constant]] = defaultdict(list)
    for constant in model.constants():
        groups[constant.dtype.str, constant.dtype.name, constant.shape].append(constant)
    for alike in groups.values():
        if len(alike) == 1:
            continue
        firsts: dict[bytes, Constant] = {}
        for constant in alike:
            first = firsts.setdefault(_digest(constant.values), constant)
            if first is constant or model.is_output(constant):
                continue
            for node in query.consumers(constant):
                for index, tensor in enumerate(list(node.inputs)):
                    if tensor is constant:
                        edit.set_input(node, index, first, f"{constant.name} equals {first.name}")


def _digest(values: np.ndarray) -> bytes:
    if values.dtype.kind == "O":
        return repr(values.tolist()).encode()
    return hashlib.sha256(np.ascontiguousarray(values).view(np.uint8)).digest()


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
