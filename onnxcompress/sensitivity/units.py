"""What gets one precision, and a pass kept to it."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import onnx

from onnxcompress.ir import query
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor, Skip
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS
from onnxcompress.ir.sort import sort
from onnxcompress.ir.sparse import SparseArray
from onnxcompress.ir.to_proto import export_model
from onnxcompress.ir.views import sources
from onnxcompress.pass_base import EXCLUDED, Context, Override, Pass
from onnxcompress.pass_manager import apply_pass

WEIGHT_INPUTS = {
    **{op: spec.weight for op, spec in WEIGHTED_OPS.items()},
    **dict.fromkeys(("LSTM", "GRU", "RNN"), 1),
    "Gather": 0,
}
"""Where the operators that sensitivity is about keep their weight; the first, if there are two."""

IN_BODY = "stands in a body (If, Loop, Scan), where it cannot be measured by itself"
"""Why a node is in no unit."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What gets one precision: the nodes that read one weight.

    Attributes:
        nodes: in execution order.
        weight: what they read, through views or as it stands; the largest, if it is of several.
    """

    nodes: tuple[Node, ...]
    weight: Constant

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return tuple(node.name for node in self.nodes)


def find_units(model: Model) -> tuple[list[Unit], list[Skip]]:
    """The units of a model's main graph in execution order, and the nodes that are in none."""
    readers: dict[frozenset[Constant], list[Node]] = {}
    skips: list[Skip] = []
    outermost = set(model.graph.nodes)
    for node in query.nodes(model, WEIGHT_INPUTS):
        weight = sources(node.inputs[WEIGHT_INPUTS[node.op]])
        if not weight:
            if node.op != "Gather":  # many of them read shapes
                skips.append(Skip(node.name, node.op, "its weight is not stored as floats"))
        elif node not in outermost:
            skips.append(Skip(node.name, node.op, IN_BODY))
        else:
            readers.setdefault(weight, []).append(node)
    units = [
        Unit(nodes=tuple(nodes), weight=max(stored, key=lambda each: each.size))
        for stored, nodes in readers.items()
    ]
    return units, skips


def only(pass_: Pass, nodes: Collection[Node]) -> Pass:
    """The pass as it acts on these weighted nodes, and on no other weighted node."""
    chosen = tuple(Override(pass_.at(node), nodes=(_literal(node),)) for node in nodes)
    return replace(pass_, overrides=(*chosen, Override(None, op_types=tuple(WEIGHT_INPUTS))))


def all_but(pass_: Pass, nodes: Collection[Node]) -> Pass:
    """The pass as it acts on all nodes but these."""
    left = tuple(Override(None, nodes=(_literal(node),)) for node in nodes)
    return replace(pass_, overrides=(*left, *pass_.overrides))


def applied(pass_: Pass, model: Model, context: Context) -> tuple[Model, Editor]:
    """A copy of the model after the pass, and what was done.

    Args:
        pass_: the pass.
        model: in the opset that the pass needs; names of its nodes are kept.
        context: services for the pass.
    """
    variant = clone(model)
    edit, _ = apply_pass(pass_, variant, context)
    sort(variant.graph)
    return variant, edit


def reason_against(unit: Unit, skips: Sequence[Skip]) -> str:
    """Why a pass that was asked about this unit alone left it as it was."""
    told = (skip.reason for skip in skips if skip.node in unit.names and skip.reason != EXCLUDED)
    return next(told, "the pass has no use for it")


def bytes_of(model: Model) -> int:
    """What the model takes as a file: its stored tensors and its structure."""

    def shell(constant: Constant) -> onnx.TensorProto:
        return onnx.TensorProto(name=constant.name, dims=constant.shape, data_type=1)

    dense = [each for each in model.constants() if not isinstance(each.stored, SparseArray)]
    return sum(each.nbytes for each in dense) + export_model(model, shell).ByteSize()


def _literal(node: Node) -> str:
    """A pattern that means this node and no other."""
    return glob.escape(node.name)
