"""Random weights to start from.

Source: He et al., "Delving Deep into Rectifiers", 2015.
"""

from __future__ import annotations

import numpy as np

from onnxcompress.distillation.weights import weight_uses
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node

_TABLE_SPREAD = 0.02
"""Standard deviation of an embedding table's numbers, as in BERT."""

_FACTORS = frozenset({"Mul", "PRelu"})
"""Operators whose stored vector multiplies; so do normalizations with their second input."""


def random_values(model: Model, seed: int) -> dict[Constant, np.ndarray]:
    """New values for every float32 weight: He-normal matrices, no bias, factors of 1.

    Means of BatchNormalization become 0 and variances 1: they say what the old weights gave.

    Args:
        model: bodies included.
        seed: of the draw; each weight has its own numbers whatever stands before it.
    """
    found: dict[Constant, np.ndarray] = {}
    for index, constant in enumerate(model.constants()):
        uses = weight_uses(constant)
        if uses and constant.dtype == np.float32:
            rng = np.random.default_rng([seed, 2, index])
            found[constant] = _drawn(constant, uses[0], rng)
    for node in query.nodes(model, {"BatchNormalization"}):
        for index, value in ((3, 0.0), (4, 1.0)):
            statistic = query.constant(node, index)
            if statistic is not None:
                found[statistic] = np.full(statistic.shape, value, statistic.dtype)
    return found


def _drawn(constant: Constant, node: Node, rng: np.random.Generator) -> np.ndarray:
    shape = constant.shape
    if len(shape) < 2 or max(shape) == constant.size:
        is_scale = node.op.endswith("Normalization") and node.inputs[1] is constant
        return np.full(shape, float(is_scale or node.op in _FACTORS), np.float32)
    spread = _TABLE_SPREAD if node.op == "Gather" else (2 / _fan_in(constant, node)) ** 0.5
    return (rng.standard_normal(shape) * spread).astype(np.float32)


def _fan_in(constant: Constant, node: Node) -> float:
    """How many products an output sums."""
    shape = constant.shape
    if node.op == "ConvTranspose":
        strides = node.ints_attr("strides", [1])
        return constant.size / shape[1] / max(float(np.prod(strides)), 1.0)
    if node.op == "MatMul" or (node.op == "Gemm" and not node.int_attr("transB", 0)):
        return float(shape[-2])
    if node.op in ("LSTM", "GRU", "RNN"):
        return float(shape[-1])
    return constant.size / shape[0]
