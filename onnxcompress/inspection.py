"""What a model holds, what it computes, and where its time goes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from onnxcompress.api_errors import own_errors
from onnxcompress.data.given_shapes import Shapes, given_symbols
from onnxcompress.errors import DataError, SessionError
from onnxcompress.ir import io
from onnxcompress.measure.macs import cost_by_op
from onnxcompress.measure.size import file_bytes
from onnxcompress.measure.untrained import untrained_notes
from onnxcompress.measure.zeros import zero_notes
from onnxcompress.releases import demands, oldest_release
from onnxcompress.report.schema import SCHEMA_VERSION, InspectReport
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.made_up import guess_notes, make_up
from onnxcompress.runtime.ort_profile import OpTime, profile
from onnxcompress.runtime.session import Session, TensorSignature


@own_errors
def inspect_model(
    model: str | os.PathLike[str], *, timed: bool = False, shapes: Shapes | None = None
) -> InspectReport:
    """Counts parameters, bytes and multiply-accumulates, on one made-up sample.

    Args:
        model: path of an .onnx file.
        timed: also profile a run in onnxruntime, single-threaded.
        shapes: of inputs whose size the model leaves open, see `compress`; they are guessed
            otherwise.

    Raises:
        ModelError: the file is not a model.
        SessionError: onnxruntime does not load it.
        DataError: a shape does not fit the model.
    """
    path = Path(model)
    loaded = io.load(path)
    session = Session(path)
    shapes = shapes or {}
    given_symbols(shapes, session.inputs)
    context = RuntimeContext(shapes=shapes)
    notes = list(loaded.notes)
    times: tuple[OpTime, ...] = ()
    types = context.types(loaded)
    if not types:
        notes.append("shapes are not known: the model does not run on made-up inputs")
    else:
        with suppress(DataError):
            notes += guess_notes(make_up(session, 1, 0, shapes).guesses)
    if timed:
        try:
            feed = next(context.sample(loaded).batches(1)).feeds
            times = profile(path, feed).rows
        except (SessionError, DataError) as fault:
            notes.append(f"no profile: {fault}")
    notes += [*untrained_notes(loaded), *zero_notes(loaded)]
    ops = cost_by_op(loaded, types)
    return InspectReport(
        schema_version=SCHEMA_VERSION,
        path=str(path),
        file_bytes=file_bytes(path),
        parameters=loaded.parameters,
        weight_bytes=loaded.weight_bytes,
        nodes=sum(1 for _ in loaded.nodes()),
        opset=loaded.opset,
        inputs=tuple(map(_in_words, session.inputs)),
        outputs=tuple(map(_in_words, session.outputs)),
        macs=sum(row.macs for row in ops),
        ops=tuple(ops),
        times=times,
        notes=tuple(notes),
        oldest_onnxruntime=str(oldest_release(loaded)),
        demands=tuple(map(str, demands(loaded))),
    )


def _in_words(tensor: TensorSignature) -> str:
    shape = ", ".join("?" if length is None else str(length) for length in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} [{shape}]"
