"""Writes the answer, and makes sure that it is the model that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from onnxcompress.errors import OutputError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.measure.objects import same_value
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
    different = [name for name, value in proof.items() if not same_value(value, again[name])]
    if different:  # what does not even repeat itself, as random numbers, proves nothing
        repeated = Session(measured).run(feed)
        different = [name for name in different if same_value(proof[name], repeated[name])]
    for name in different:
        for path in written:
            path.unlink()
        raise OutputError(
            f"{output}: output {name!r} of the written file differs from what was measured; "
            "the file was removed"
        )
    return written
