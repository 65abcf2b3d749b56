"""What became of a large model, and the page that tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.child import Outcome
from benchmarks.large_model_file import LargeModel
from benchmarks.results import environment_line, megabytes

LIMIT_BYTES: Final = 2_000_000_000
MAX_ROUNDED_ERROR: Final = 1e-4
"""Of the result as written, relative to numpy with the same int8 weights: both sum in float32."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one pass did, or the loading or saving of the model."""

    name: str
    seconds: float
    changes: int = 0
    skips: int = 0
    verification: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a large model.

    Attributes:
        model: the original.
        size: bytes of the result's files.
        shrunk: the process that made it.
        ran: the process in which stock onnxruntime ran it.
        float_error: how far its outputs lie from the original's by numpy: the root of the sum of
            squares, relative to theirs.
        rounded_error: likewise, numpy rounding the weights itself, onnxruntime not optimizing (it
            may round activations too).
        rows: how many rows were compared.
    """

    model: LargeModel
    size: int
    shrunk: Outcome[list[Step]]
    ran: Outcome[np.ndarray]
    float_error: float
    rounded_error: float
    rows: int

    @property
    def good(self) -> bool:
        """Whether memory stayed below the limit and the outputs are what they should be."""
        return self.shrunk.peak_bytes < LIMIT_BYTES and self.rounded_error < MAX_ROUNDED_ERROR


def markdown(result: Result, command: str) -> str:
    """The result as a page."""
    model, size = result.model, result.model.weight_bytes
    steps = "\n".join(
        f"| {s.name} | {s.seconds:.1f} | {s.changes} | {s.skips} | {s.verification} |"
        for s in result.shrunk.value
    )
    return f"""# A model larger than the memory spent on it

{environment_line()}
Made by `{command}`.

{model.layers} products with {model.width}x{model.width} weights, {model.factors} of them with a
factor that clean-up folds into the weight. The passes of clean-up and `quantize-weights` ran in one
process.

| | |
|---|---:|
| weights before | {megabytes(size)} |
| files after | {megabytes(result.size)}, {result.size / size:.1%} |
| **peak memory, mapped pages included** | **{megabytes(result.shrunk.peak_bytes)}** |
| limit | {megabytes(LIMIT_BYTES)} |
| seconds | {result.shrunk.seconds:.0f} |
| stock onnxruntime, loading and running the result | {megabytes(result.ran.peak_bytes)} |
| outputs, not optimized, against numpy with weights rounded to int8 | {result.rounded_error:.1e} |
| outputs against numpy with float weights | {result.float_error:.1e} |

Errors are relative, over {result.rows} rows.

| step | seconds | changes | left alone | checked |
|---|---:|---:|---:|---|
{steps}
"""
