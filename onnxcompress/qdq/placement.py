"""Which nodes run on integers, and which tensors therefore need a range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor, Variable
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.qdq.candidates import not_float32
from onnxcompress.qdq.kernels import DATA_INPUTS, NO_KERNEL, ROLES, WEIGHTED, Role

Options = TypeVar("Options")

Refuse = Callable[[Node, str], None]
"""Records that a candidate stays float, and why."""


@dataclass
class Placement:
    """What to quantize in the main graph.

    Attributes:
        nodes: nodes to run on integers, in execution order, with their roles.
        tensors: tensors to quantize, in the order they are written; each is the input of a node in
            `nodes` or the result of one whose integers do not come from its input.
        results: those of `tensors` that a node in `nodes` writes as integers.
        vanishing: activations that the quantization after them makes redundant, by the tensor
            they write.
    """

    nodes: dict[Node, Role] = field(default_factory=dict)
    tensors: dict[Tensor, None] = field(default_factory=dict)
    results: set[Tensor] = field(default_factory=set)
    vanishing: dict[Tensor, Node] = field(default_factory=dict)

    def for_tensors(
        self, options: Callable[[Node], Options | None], default: Options
    ) -> dict[Tensor, Options]:
        """Whose options hold for each tensor: those of the first node that reads it.

        Args:
            options: of a node; None if it has none of its own.
            default: where no node of the placement reads a tensor.
        """
        chosen = dict.fromkeys(self.tensors, default)
        for node in reversed(self.nodes):
            for tensor in data_inputs(node):
                if tensor in chosen:
                    chosen[tensor] = options(node) or default
        return chosen

    def weighted_readers(self, tensor: Tensor) -> list[Node]:
        """The nodes in `nodes` that multiply a tensor by a stored weight."""
        readers = query.consumers(tensor)
        return [node for node in readers if self.nodes.get(node) in WEIGHTED]


def place(model: Model, allowed: Callable[[Node], bool], refuse: Refuse) -> Placement:
    """Grows integer regions from the weighted nodes of the main graph.

    A join or move takes part only where all its data is integer already and something integer reads
    it: a lone int8 Add between float nodes costs more than it saves.

    Args:
        model: the model; only its main graph can be calibrated.
        allowed: whether the caller's options let a node take part; records its own refusals.
        refuse: told about every other candidate that stays float.
    """
    allowed = cache(allowed)  # asked for a node once, so that a refusal is recorded once
    placement = Placement()
    for graph, node in model.nodes():
        if node.domain not in STANDARD:
            continue
        if node.op in NO_KERNEL:
            refuse(node, NO_KERNEL[node.op])
        elif ROLES.get(node.op) in WEIGHTED:
            reason = _unfit_weighted(node)
            if graph is not model.graph:
                refuse(node, "stands in a body (If, Loop, Scan), which cannot be calibrated")
            elif reason is not None:
                refuse(node, reason)
            elif allowed(node):
                placement.nodes[node] = ROLES[node.op]
    _grow(model, placement, allowed, refuse)
    for node, role in placement.nodes.items():
        for tensor in data_inputs(node):
            placement.tensors.setdefault(tensor)
        if role in (Role.CONV, Role.JOIN):
            result = _result(model, node, allowed)
            placement.tensors.setdefault(result)
            placement.results.add(result)
            if result is not node.outputs[0]:
                placement.vanishing[result] = result.inputs[0]
    for node, role in placement.nodes.items():
        if role is Role.MOVE:  # written as integers, so no QuantizeLinear of its own
            placement.tensors.pop(node.outputs[0], None)
    return placement


def data_inputs(node: Node) -> list[Tensor]:
    """The inputs of a node that carry activations."""
    return list(node.inputs[: DATA_INPUTS.get(node.op, 1)])


def _unfit_weighted(node: Node) -> str | None:
    """Why a node that could multiply by a stored weight stays float; None if it need not."""
    spec = WEIGHTED_OPS[node.op]
    weight = query.constant(node, spec.weight)
    if weight is None:
        return "its weight is not stored"
    if isinstance(node.inputs[0], Constant):
        return "its input is stored, not computed"
    if weight.dtype != np.float32:
        return f"its weight is {not_float32(weight)}"
    if len(weight.shape) < 2:
        return f"its weight is {weight.dtype} {list(weight.shape)}"
    if node.op == "MatMul" and len(weight.shape) != 2:
        return "its weight is a stack of matrices"
    if node.op == "Gemm" and not _is_plain(node):
        return "scales or transposes its input (alpha, beta, transA)"
    if not np.isfinite(weight.values).all():
        return "its weight holds NaN or infinite values"
    if spec.bias is None or not query.has_input(node, spec.bias):
        return None
    bias = query.constant(node, spec.bias)
    if bias is None:
        return "its bias is not stored"
    channels = weight.shape[output_channel_axis(node, len(weight.shape))]
    if bias.size != 1 and bias.shape not in ((channels,), (1, channels)):
        return f"its bias {list(bias.shape)} is not one value a channel"
    return None if np.isfinite(bias.values).all() else "its bias holds NaN or infinite values"


def _is_plain(gemm: Node) -> bool:
    factors = gemm.float_attr("alpha", 1.0), gemm.float_attr("beta", 1.0)
    return factors == (1.0, 1.0) and not gemm.int_attr("transA", 0)


def _grow(
    model: Model, placement: Placement, allowed: Callable[[Node], bool], refuse: Refuse
) -> None:
    """Adds joins and moves whose data is integer, then drops those that nothing integer reads."""
    integer: set[Tensor] = set()
    members: dict[Node, Role] = {}
    for node in model.graph.nodes:
        role = ROLES.get(node.op) if node.domain in STANDARD else None
        if node in placement.nodes:
            members[node] = placement.nodes[node]
            if role is Role.CONV:
                integer.add(_result(model, node, allowed))
        elif role in (Role.JOIN, Role.MOVE) and not integer.isdisjoint(data_inputs(node)):
            floats = [tensor.name for tensor in data_inputs(node) if tensor not in integer]
            reason = f"reads {floats[0]!r}, which stays float" if floats else _unfit(model, node)
            if reason is not None:
                refuse(node, reason)
            elif allowed(node):
                members[node] = role
                integer.add(_result(model, node, allowed) if role is Role.JOIN else node.outputs[0])
    for node in reversed(list(members)):
        if members[node] in WEIGHTED:
            continue
        result = _result(model, node, allowed) if members[node] is Role.JOIN else node.outputs[0]
        if not any(reader in members for reader in query.consumers(result)):
            refuse(node, "nothing that runs on integers reads its result")
            del members[node]
    placement.nodes = members


def _unfit(model: Model, node: Node) -> str | None:
    """Why a join or move whose data is integer stays float; None if it need not."""
    if any(output.outputs or model.is_output(output) for output in node.outputs[1:]):
        return "its second output is read"
    if node.op == "Pad" and query.has_input(node, 2):
        value = query.constant(node, 2)
        if value is None or np.any(value.values):
            return "pads with a value that the range of its input may not hold"
    return None


def _result(model: Model, node: Node, allowed: Callable[[Node], bool]) -> Variable:
    """What a node writes, after the activation that vanishes into its quantization, if any."""
    output = node.outputs[0]
    reader = query.only_consumer(model, output)
    if reader is None or reader.domain not in STANDARD:
        return output
    if ROLES.get(reader.op) is not Role.ACTIVATION:
        return output
    bounds = (query.constant(reader, index) for index in (1, 2))
    given = [query.has_input(reader, index) for index in (1, 2)]
    if any(is_given and bound is None for is_given, bound in zip(given, bounds, strict=True)):
        return output  # bounds computed at run time
    return reader.outputs[0] if allowed(reader) else output
