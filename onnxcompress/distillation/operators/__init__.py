"""What each ONNX operator computes, as a differentiable function of torch tensors."""

from __future__ import annotations

from onnxcompress.distillation.call import Operator, Table
from onnxcompress.distillation.operators import (
    activations,
    arithmetic,
    attention,
    casting,
    contrib,
    contrib_attention,
    control,
    convolution,
    filling,
    indexing,
    logic,
    losses,
    normalization,
    pooling,
    products,
    quantization,
    recurrent,
    reductions,
    resizing,
    sampling,
    sequences,
    shaping,
    spectral,
)
from onnxcompress.distillation.operators.function_bodies import (
    has_function_body,
    run_function_body,
)
from onnxcompress.ir.model import STANDARD, Node

_TABLES: tuple[Table, ...] = (
    activations.TABLE,
    arithmetic.TABLE,
    attention.TABLE,
    casting.TABLE,
    contrib.TABLE,
    contrib_attention.TABLE,
    control.TABLE,
    convolution.TABLE,
    filling.TABLE,
    indexing.TABLE,
    logic.TABLE,
    losses.TABLE,
    normalization.TABLE,
    pooling.TABLE,
    products.TABLE,
    quantization.TABLE,
    recurrent.TABLE,
    reductions.TABLE,
    resizing.TABLE,
    sampling.TABLE,
    sequences.TABLE,
    shaping.TABLE,
    spectral.TABLE,
)

OPERATORS: Table = {name: operator for table in _TABLES for name, operator in table.items()}
"""All of them."""


def operator_of(node: Node) -> Operator | None:
    """The function for a node; None if there is none."""
    name = node.op if node.domain in STANDARD else f"{node.domain}::{node.op}"
    if name in OPERATORS:
        return OPERATORS[name]
    return run_function_body if has_function_body(node) else None
