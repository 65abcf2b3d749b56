"""Activation functions with exponentials or the like, replaced by Relu.

Source: ONNX Gelu (opset 20), HardSwish (14), Mish (18), Swish (24), Softplus, Elu, Celu and Selu,
formulas with Erf, Sigmoid and Tanh; onnxruntime's Gelu, FastGelu and QuickGelu.
"""

from __future__ import annotations

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor, Variable
from onnxcompress.students.region import Regions

_COSTLY = frozenset(
    {
        *("Celu", "Elu", "Erf", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "Mish"),
        *("QuickGelu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh"),
    }
)
"""What makes an activation function slower than Relu."""

_BOUNDED = frozenset({"Erf", "HardSigmoid", "Sigmoid", "Softsign", "Tanh"})
"""Those that do not grow with their argument, so that Relu is nothing like them."""

_ARITHMETIC = frozenset(
    {"Add", "Cast", "Clip", "Div", "Exp", "Identity", "Mul", "Neg", "Pow", "Sub"}
)
"""What formulas of activation functions are written with besides."""


def cheapen_activations(part: Model, edit: Editor) -> str | None:
    """Puts Relu for what is made of one tensor, element by element, by costly functions.

    That is Gelu in one node or written out, x sigmoid(x), HardSwish and others that are near Relu
    away from zero. Returns why nothing was changed, if nothing was.
    """
    regions = Regions(part)
    done: set[Node] = set()
    for node in list(part.graph.nodes):
        if node.op not in _COSTLY or node in done:
            continue
        found = _formula(regions, node)
        if found is None:
            continue
        start, end, between = found
        done.update(between)
        edit.redirect(end, edit.add("Relu", [start], near=between[-1], base=end.name))
    return None if done else "the part has no activation function like Gelu, SiLU or HardSwish"


def _formula(regions: Regions, costly: Node) -> tuple[Variable, Variable, list[Node]] | None:
    """Where the formula that a node is a part of begins and ends, and its nodes.

    It begins at the nearest tensor back from which alone all of it is made.
    """
    tensor: Tensor = costly.inputs[0]
    while isinstance(tensor, Variable):
        holding = [
            (end, nodes)
            for end, nodes in regions.exits(tensor, _is_elementwise)
            if costly in nodes and _is_gate(nodes)
        ]
        if holding:
            return tensor, *holding[-1]
        writer = query.producer(tensor)
        if writer is None or not _is_elementwise(writer):
            return None
        tensor = _computed(writer)[0]
    return None


def _is_elementwise(node: Node) -> bool:
    """Whether a node computes element by element, with single stored numbers at most."""
    single = all(each.size == 1 for each in node.inputs if isinstance(each, Constant))
    return single and node.op in _COSTLY | _ARITHMETIC


def _is_gate(nodes: list[Node]) -> bool:
    """Whether a function grows like its argument: that of one node, or a product with itself."""
    if len(nodes) == 1:
        return nodes[0].op not in _BOUNDED
    return any(node.op == "Mul" and len(_computed(node)) == 2 for node in nodes)


def _computed(node: Node) -> list[Variable]:
    return [each for each in node.inputs if isinstance(each, Variable)]
