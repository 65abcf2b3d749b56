"""Why a weight is not one to store in another form: what several passes ask alike."""

from __future__ import annotations

import numpy as np

from onnxcompress.ir.model import Constant

RECURRENT_OPS = frozenset({"LSTM", "GRU", "RNN"})
"""Operators that read their own results."""

RECURRENT = "recurrent weights stay float: rounding them adds up over time steps"
"""The reason to give for them."""


def why_not_float32(weight: Constant, min_elements: int) -> str | None:
    """Why a stored weight is not worth a rewrite; None if it is a float32 one of that size."""
    if weight.dtype != np.float32:
        return f"its weight is {weight.dtype}, not float32"
    if weight.size < min_elements:
        return f"{weight.size} elements < min_elements={min_elements}"
    return None


def why_not_finite(weight: Constant) -> str | None:
    """Why the values of a weight cannot be rounded; reads all of them, so ask it last."""
    return None if np.isfinite(weight.values).all() else "its weight holds NaN or infinities"


def is_no_table(weight: Constant | None) -> bool:
    """Whether a Gather reads lengths, indices or activations rather than a table of floats."""
    return weight is None or weight.dtype.kind in "iubO"
