"""Which nodes run on integers, and which tensors therefore need a range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node, Tensor, Variable
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.qdq.kernels import DATA_INPUTS, ROLES, WEIGHTED, Role

Refuse = Callable[[Node, str], None]
"""Records that a candidate stays float, and why."""


@dataclass
class Placement:
    """What to quantize in the main graph.

    Attributes:
        nodes: nodes to run on integers, in execution order, with their roles.
        tensors: tensors to quantize, in the order they are written; each is the input of a node in
            `nodes` or the result of one whose integers do not come from its input.
        vanishing: activations that the quantization after them makes redundant, by the tensor
            they write.
    """

    nodes: dict[Node, Role] = field(default_factory=dict)
    tensors: dict[Tensor, None] = field(default_factory=dict)
    vanishing: dict[Tensor, Node] = field(default_factory=dict)


def place(model: Model, allowed: Callable[[Node], bool], refuse: Refuse) -> Placement:
    """Grows integer regions from the weighted nodes of the main graph.

    A join or move takes part only where all its data is integer already and something integer reads
    it: a lone int8 Add between float nodes costs more than it saves.

    Args:
        model: the model; only its main graph can be calibrated.
        allowed: whether the caller's options let a node take part; records its own refusals.
        refuse: told about every other candidate that stays float.
    """
    placement = Placement()
    _weighted(model, placement, allowed, refuse)
    _grow(model, placement, allowed)
    for node, role in placement.nodes.items():
        for tensor in data_inputs(node):
            placement.tensors.setdefault(tensor)
        if role in (Role.CONV, Role.JOIN):
            result = _result(model, node)
            placement.tensors.setdefault(result)
            if result is not node.outputs[0]:
                placement.vanishing[result] = result.inputs[0]
    for node, role in placement.nodes.items():
        if role is Role.MOVE:  # written as integers, so no QuantizeLinear of its own
            placement.tensors.pop(node.outputs[0], None)
    return placement


def data_inputs(node: Node) -> list[Tensor]:
    """The inputs of a node that carry activations."""
    return list(node.inputs[: DATA_INPUTS.get(node.op, 1)])


def _weighted(
    model: Model, placement: Placement, allowed: Callable[[Node], bool], refuse: Refuse
) -> None:
    for graph, node in model.nodes():
        if node.domain or ROLES.get(node.op) not in WEIGHTED:
            continue
        spec = WEIGHTED_OPS[node.op]
        weight = query.constant(node, spec.weight)
        bias = None if spec.bias is None else query.constant(node, spec.bias)
        if graph is not model.graph:
            refuse(node, "stands in a body (If, Loop, Scan), which cannot be calibrated")
        elif weight is None:
            refuse(node, "its weight is not stored")
        elif isinstance(node.inputs[0], Constant):
            refuse(node, "its input is stored, not computed")
        elif weight.dtype != np.float32 or len(weight.shape) < 2:
            refuse(node, f"its weight is {weight.dtype} {list(weight.shape)}")
        elif spec.bias is not None and query.has_input(node, spec.bias) and bias is None:
            refuse(node, "its bias is not stored")
        elif node.op == "Gemm" and not _is_plain(node):
            refuse(node, "scales or transposes its input (alpha, beta, transA)")
        elif node.op == "MatMul" and len(weight.shape) != 2:
            refuse(node, "its weight is a stack of matrices")
        elif allowed(node):
            placement.nodes[node] = ROLES[node.op]


def _is_plain(gemm: Node) -> bool:
    factors = gemm.float_attr("alpha", 1.0), gemm.float_attr("beta", 1.0)
    return factors == (1.0, 1.0) and not gemm.int_attr("transA", 0)


def _grow(model: Model, placement: Placement, allowed: Callable[[Node], bool]) -> None:
    """Adds joins and moves whose data is integer, then drops those that nothing integer reads."""
    integer: set[Tensor] = set()
    members: dict[Node, Role] = {}
    for node in model.graph.nodes:
        role = None if node.domain else ROLES.get(node.op)
        if node in placement.nodes:
            members[node] = placement.nodes[node]
            if role is Role.CONV:
                integer.add(_result(model, node))
        elif role in (Role.JOIN, Role.MOVE):
            if all(tensor in integer for tensor in data_inputs(node)) and allowed(node):
                members[node] = role
                integer.add(_result(model, node) if role is Role.JOIN else node.outputs[0])
    for node in reversed(list(members)):
        if members[node] in WEIGHTED:
            continue
        result = _result(model, node) if members[node] is Role.JOIN else node.outputs[0]
        if not any(reader in members for reader in query.consumers(result)):
            del members[node]
    placement.nodes = members


def _result(model: Model, node: Node) -> Variable:
    """What a node writes, after the activation that vanishes into its quantization, if any."""
    output = node.outputs[0]
    reader = query.only_consumer(model, output)
    if reader is None or reader.domain or ROLES.get(reader.op) is not Role.ACTIVATION:
        return output
    bounds = (query.constant(reader, index) for index in (1, 2))
    given = [query.has_input(reader, index) for index in (1, 2)]
    if any(is_given and bound is None for is_given, bound in zip(given, bounds, strict=True)):
        return output  # bounds computed at run time
    return reader.outputs[0]
