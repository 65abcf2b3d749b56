"""The weights of a model that can be pruned, each once, with all nodes that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor
from onnxcompress.masking.views import PRUNABLE_INPUTS, from_view, kernel_size, to_view
from onnxcompress.pass_base import EXCLUDED, Pass
from onnxcompress.qdq.candidates import is_no_table, why_not_finite

P = TypeVar("P", bound=Pass)

_FLOATS = (np.float16, np.float32, np.float64)
_TABLE = "a table that Gather reads; prune-vocabulary takes rows that are never read"
_MOVED_OPS = frozenset({"Transpose", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})


@dataclass(frozen=True, eq=False)
class PrunableWeight:
    """A stored weight of which some may become zero.

    Attributes:
        constant: the stored tensor.
        readers: every node that reads it and at which input; all see it alike.
    """

    constant: Constant
    readers: tuple[tuple[Node, int], ...]

    @property
    def node(self) -> Node:
        """The first reader: it says how the weight is seen."""
        return self.readers[0][0]

    @property
    def kernel(self) -> int:
        """Features of one input channel, which lie together."""
        return kernel_size(self.node, self.constant.shape)

    def view(self, values: np.ndarray | None = None) -> np.ndarray:
        """[groups, outputs, features] of the stored values, or of others of their shape."""
        return to_view(self.node, self.constant.values if values is None else values)

    def changed(self, edit: Editor, view: np.ndarray) -> ChangedWeight | None:
        """Stores other values, [groups, outputs, features]; None if they are those it has."""
        old = self.constant.values
        values = from_view(self.node, view, old.shape).astype(old.dtype)
        if np.array_equal(values, old):
            return None
        zeros = values.size - np.count_nonzero(values)
        detail = f"{self.constant.name}: {zeros} of {values.size} weights are zero"
        constant = edit.constant(self.constant.name, np.ascontiguousarray(values))
        return ChangedWeight(self, constant, detail)

    def skip(self, edit: Editor, reason: str) -> None:
        """Records for all readers that the weight was left alone."""
        for node, _ in self.readers:
            edit.skip(node, reason)


@dataclass(frozen=True, eq=False)
class ChangedWeight:
    """New values of a weight, stored, which nobody reads until `apply`: the model runs as it was.

    Attributes:
        weight: the weight.
        constant: its new values.
        detail: what changed, for the record.
    """

    weight: PrunableWeight
    constant: Constant
    detail: str

    def apply(self, edit: Editor) -> None:
        """Lets all readers of the weight read the new values."""
        for node, index in self.weight.readers:
            edit.set_input(node, index, self.constant, self.detail)


def prunable_weights(
    model: Model, edit: Editor, at: Callable[[Node], P | None]
) -> list[tuple[PrunableWeight, P]]:
    """Every weight that can be pruned, with the options that hold for it; others are skipped.

    Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN, in bodies too.

    Args:
        model: where to look.
        edit: records what is left alone and why.
        at: the options that hold for a node, see `Pass.at`.
    """
    found: list[tuple[PrunableWeight, P]] = []
    seen: set[Constant] = set()
    for node in query.nodes(model, {*PRUNABLE_INPUTS, "Gather"}):
        if node.op == "Gather":
            if not is_no_table(query.constant(node, 0)):
                edit.skip(node, _TABLE)
            continue
        for index in PRUNABLE_INPUTS[node.op]:
            constant = query.constant(node, index)
            options = at(node)
            if options is None or constant is None:
                reason = EXCLUDED if options is None else _why_not_stored(node, index)
                edit.skip(node, reason)
            elif constant not in seen:
                seen.add(constant)
                weight = PrunableWeight(constant, _places(constant))
                unfit = _why_not_pruned(model, weight, options, at)
                if unfit is None:
                    found.append((weight, options))
                else:
                    weight.skip(edit, unfit)
    return found


def _places(constant: Constant) -> tuple[tuple[Node, int], ...]:
    return tuple(
        (node, index)
        for node in query.consumers(constant)
        for index, tensor in enumerate(node.inputs)
        if tensor is constant
    )


def _why_not_pruned(
    model: Model, weight: PrunableWeight, options: P, at: Callable[[Node], P | None]
) -> str | None:
    """Why a stored weight is left alone; None if it need not be."""
    constant, name = weight.constant, weight.constant.name
    if constant.dtype not in _FLOATS:
        return f"{name!r} is {constant.dtype}, not a float type"
    if model.is_output(constant):
        return f"a graph returns {name!r} as it stands"
    for node, index in weight.readers:
        where = f"{node.name!r} ({node.op})"
        if node.domain not in STANDARD or index not in PRUNABLE_INPUTS.get(node.op, ()):
            return f"{where} reads {name!r} too, and not as a weight to multiply with"
        if at(node) != options:
            return f"{where} shares {name!r} under other options; give all its readers the same"
        if _layout(node) != _layout(weight.node):
            return f"{where} shares {name!r} in another layout"
    return why_not_finite(constant)


def _layout(node: Node) -> tuple[bool, int]:
    """What a view depends on: whether features lie along the first axis, and groups."""
    by_column = node.op == "MatMul" or (node.op == "Gemm" and not node.int_attr("transB", 0))
    return by_column or node.op == "ConvTranspose", node.int_attr("group", 1)


def _why_not_stored(node: Node, index: int) -> str:
    """Why an input is no stored weight, and what to do about it."""
    if index >= len(node.inputs) or query.is_omitted(node.inputs[index]):
        return "it has no weight"
    if isinstance(node.inputs[0], Constant):
        return "its stored operand is the first; weights are looked for in the second"
    tensor: Tensor = node.inputs[index]
    moved = ""
    while (writer := query.producer(tensor)) is not None and writer.domain in STANDARD:
        if writer.op == "DequantizeLinear":
            return "its weight is quantized; prune before quantization"
        if writer.op not in _MOVED_OPS:
            break
        moved = moved or writer.op
        tensor = writer.inputs[0]
    if moved and isinstance(tensor, Constant):
        return f"its weight is stored behind {moved}; run fold-constants first"
    return "its weight is computed, not stored"
