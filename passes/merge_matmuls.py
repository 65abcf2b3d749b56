"""Merges matrix products that read the same tensor into one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Attribute, Editor
from onnxcompress.ir.linear import stored_operand
from onnxcompress.ir.model import STANDARD, Graph, Model, Node, Tensor, Variable
from onnxcompress.pass_base import EXCLUDED, Context, Pass


@dataclass(frozen=True, kw_only=True)
class MergeMatMuls(Pass):
    """MatMul(x, A), MatMul(x, B)  ->  Split(MatMul(x, [A B])).

    The biases that follow merge too. One wide product runs faster than several narrow ones, and
    dynamic quantization then rounds x once: the query, key and value of attention are such a group.
    Source: ONNX Split (opset 2-18); the sizes are an attribute before opset 13.
    """

    name: ClassVar[str] = "merge-matmuls"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        groups: dict[tuple[Graph, Tensor], list[Node]] = defaultdict(list)
        for graph, node in model.nodes():
            if node.op == "MatMul" and node.domain in STANDARD and query.constant(node, 1):
                groups[graph, node.inputs[0]].append(node)
        for products in groups.values():
            if len(products) == 1:
                continue
            branches: list[_Branch] = []
            for node in products:
                branch = EXCLUDED if self.at(node) is None else _branch(model, node)
                if isinstance(branch, str):
                    edit.skip(node, branch)
                else:
                    branches.append(branch)
            kinds = {(branch.weight.dtype, branch.bias is None) for branch in branches}
            if len(kinds) == 1 and len(branches) > 1:
                _merge(edit, branches)
                continue
            for branch in branches:
                edit.skip(branch.matmul, _WHY_APART[len(branches) > 1])


_WHY_APART = {
    True: "some products of its input have a bias, some not",
    False: "no other product of its input can merge with it",
}


@dataclass(frozen=True)
class _Branch:
    """One product: its node, its weight [k, n], and its bias [n] with the Add that adds it."""

    matmul: Node
    weight: np.ndarray
    bias: np.ndarray | None
    result: Variable
    last: Node


def _branch(model: Model, node: Node) -> _Branch | str:
    """The product that a MatMul with a stored weight is; or why it cannot merge."""
    weight = query.constant(node, 1)
    assert weight is not None
    if len(weight.shape) != 2 or weight.dtype.kind != "f":
        return f"its weight is {weight.dtype} {list(weight.shape)}"
    if any(reader is not node for reader in query.consumers(weight)):
        return "its weight has other readers and would be stored twice"
    reader = query.only_consumer(model, node.outputs[0])
    if reader is not None and reader.op == "Add" and reader.domain in STANDARD:
        index = stored_operand(reader)
        bias = None if index is None else query.constant(reader, index)
        if bias is not None and bias.shape == weight.shape[1:]:
            return _Branch(node, weight.values, bias.values, reader.outputs[0], reader)
    return _Branch(node, weight.values, None, node.outputs[0], node)


def _merge(edit: Editor, branches: list[_Branch]) -> None:
    near = branches[0].matmul
    source = near.inputs[0]  # as it is now: it may be a result of products merged before
    base = f"{near.name}_merged"
    weight = edit.constant(f"{base}_weight", np.concatenate([b.weight for b in branches], axis=1))
    product = edit.add("MatMul", [source, weight], near=near, base=base, dtype=weight.dtype)
    biases = [branch.bias for branch in branches if branch.bias is not None]
    if biases:
        bias = edit.constant(f"{base}_bias", np.concatenate(biases))
        product = edit.add(
            "Add", [product, bias], near=near, base=f"{base}_biased", dtype=bias.dtype
        )
    sizes = [branch.weight.shape[1] for branch in branches]
    results = _split(edit, product, sizes, near, base)
    for branch, result in zip(branches, results, strict=True):
        edit.redirect(branch.result, result)
        if branch.last is not branch.matmul:
            edit.remove(branch.last)
        edit.remove(branch.matmul)


def _split(
    edit: Editor, product: Variable, sizes: list[int], near: Node, base: str
) -> list[Variable]:
    """Split along the last axis; before opset 13 the sizes are an attribute."""
    bases = [f"{base}_{index}" for index in range(len(sizes))]
    if edit.model.opset < 13:
        attrs: dict[str, Attribute] = {"axis": -1, "split": sizes}
        return edit.add_many("Split", [product], near=near, bases=bases, attrs=attrs)
    lengths = edit.shared(f"{base}_sizes", np.array(sizes, np.int64))
    return edit.add_many("Split", [product, lengths], near=near, bases=bases, attrs={"axis": -1})
