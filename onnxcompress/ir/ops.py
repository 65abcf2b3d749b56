"""What operators are, as tables."""

from __future__ import annotations

from dataclasses import dataclass

from onnxcompress.ir.model import Node

RANDOM_OPS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Two calls of these give different values."""

CONTROL_FLOW_OPS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators that hold graphs."""


@dataclass(frozen=True)
class Weighted:
    """Where an operator that multiplies by a weight keeps it.

    Attributes:
        weight: index of the weight input.
        bias: index of the bias input, or None if the operator has none.
    """

    weight: int
    bias: int | None


WEIGHTED_OPS = {
    "Conv": Weighted(1, 2),
    "ConvTranspose": Weighted(1, 2),
    "Gemm": Weighted(1, 2),
    "MatMul": Weighted(1, None),
}
"""Operators whose second input is a weight when it is stored."""


def output_channel_axis(node: Node, rank: int) -> int:
    """The weight axis along which output channels lie.

    Args:
        node: one of `WEIGHTED_OPS`.
        rank: axes of its weight.
    """
    match node.op:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1  # within each group
        case "Gemm":
            return 0 if node.int_attr("transB", 0) else 1
        case _:
            return rank - 1
