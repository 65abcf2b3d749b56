"""Writes the answer, and makes sure that it is the model that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxcompress.errors import OutputError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.runtime.session import Session


def write_answer(
    model: Model, output: Path, measured: Path, feed: Mapping[str, np.ndarray]
) -> Sequence[Path]:
    """Writes a model and runs the file beside the one that was measured.

    Args:
        model: to be written.
        output: where.
        measured: the file that was measured.
        feed: inputs that both are run on.

    Returns:
        The files that were written.

    Raises:
        OutputError: the file cannot be written, or says something else; it is removed then.
    """
    written = io.save(model, output)
    proof, again = Session(measured).run(feed), Session(output).run(feed)
    for name, value in proof.items():
        if not same_answer(value, again[name]):
            for path in written:
                path.unlink()
            raise OutputError(
                f"{output}: output {name!r} of the written file differs from what was measured; "
                "the file was removed"
            )
    return written


def same_answer(one: Any, other: Any) -> bool:
    """Whether two outputs are equal bit by bit; text, sequences and maps by what they hold."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype != object:
            return one.tobytes() == other.tobytes()
        return all(same_answer(*pair) for pair in zip(one.flat, other.flat, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_answer(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_answer, one, other))
    if isinstance(one, float) and isinstance(other, float) and np.isnan(one):
        return bool(np.isnan(other))
    return bool(one == other)
