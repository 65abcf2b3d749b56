"""Why a weight is not one to store in another form: what several passes ask alike."""

from __future__ import annotations

import numpy as np

from onnxcompress.ir.model import Constant
from onnxcompress.qdq.other_floats import OTHER_FLOATS

RECURRENT_OPS = frozenset({"LSTM", "GRU", "RNN"})
"""Operators that read their own results."""

RECURRENT = "recurrent weights stay float: rounding them adds up over time steps"
"""The reason to give for them."""


def not_float32(weight: Constant) -> str:
    """What a weight is instead, and what to do where that can be changed."""
    changes = "; use-float32 before this pass changes that" if weight.dtype in OTHER_FLOATS else ""
    return f"{weight.dtype}, not float32{changes}"


def why_not_float32(weight: Constant, min_elements: int) -> str | None:
    """Why a stored weight is not worth a rewrite; None if it is a float32 one of that size."""
    if weight.dtype != np.float32:
        return f"its weight is {not_float32(weight)}"
    if weight.size < min_elements:
        return f"{weight.size} elements < min_elements={min_elements}"
    return None


def why_not_finite(weight: Constant) -> str | None:
    """Why the values of a weight cannot be rounded; reads all of them, so ask it last."""
    return None if np.isfinite(weight.values).all() else "its weight holds NaN or infinities"


def is_no_table(weight: Constant | None) -> bool:
    """Whether a Gather reads lengths, indices or activations rather than a table of floats."""
    return weight is None or weight.dtype.kind in "iubO"
