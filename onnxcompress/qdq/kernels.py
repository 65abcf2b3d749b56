"""What onnxruntime's CPU provider runs on 8-bit integers, as a table.

Measured with onnxruntime 1.31; `onnxcompress bench` lists the Q/DQ that survive unfused, which is
how to find out whether a newer one does more.
"""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """How an operator takes part in an integer graph."""

    CONV = "integer in, integer out: QLinearConv"
    PRODUCT = "integer in, float out: MatMulIntegerToFloat, QGemm"
    JOIN = "integer in, integer out with a range of its own: QLinearAdd and its like"
    MOVE = "moves integers as they are; the range stays"
    ACTIVATION = "vanishes into the QuantizeLinear after it"


ROLES: dict[str, Role] = {
    "Conv": Role.CONV,
    "MatMul": Role.PRODUCT,
    "Gemm": Role.PRODUCT,
    "Add": Role.JOIN,
    "Mul": Role.JOIN,
    "Concat": Role.JOIN,
    "AveragePool": Role.JOIN,
    "GlobalAveragePool": Role.JOIN,
    "LeakyRelu": Role.JOIN,
    "Sigmoid": Role.JOIN,
    "MaxPool": Role.MOVE,
    "Reshape": Role.MOVE,
    "Flatten": Role.MOVE,
    "Squeeze": Role.MOVE,
    "Unsqueeze": Role.MOVE,
    "Transpose": Role.MOVE,
    "Slice": Role.MOVE,
    "Pad": Role.MOVE,
    "Relu": Role.ACTIVATION,
    "Clip": Role.ACTIVATION,
}

WEIGHTED = frozenset({Role.CONV, Role.PRODUCT})
"""Roles of operators that multiply by a stored weight; integer graphs grow from these."""

DATA_INPUTS = {"Add": 2, "Mul": 2, "Concat": None}
"""How many leading inputs are data; None for all, 1 for operators not named."""

NO_KERNEL = {
    "ConvTranspose": "onnxruntime has no integer ConvTranspose",
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "onnxruntime has no integer kernel for it"),
}
"""Operators with a stored weight that stay float, with the reason."""

NO_16_BIT_KERNEL = frozenset({"MaxPool", "Pad"})
"""Operators that move 8-bit integers, but not 16-bit ones."""

NO_16_BITS = "onnxruntime has no kernel for it on 16-bit integers"
