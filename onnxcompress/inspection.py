"""What a model holds, what it computes, and where its time goes."""

from __future__ import annotations

import os
from pathlib import Path

from onnxcompress.errors import DataError, SessionError
from onnxcompress.ir import io
from onnxcompress.measure.macs import cost_by_op
from onnxcompress.measure.size import file_bytes
from onnxcompress.measure.zeros import zero_notes
from onnxcompress.report.schema import SCHEMA_VERSION, InspectReport
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.ort_profile import OpTime, profile
from onnxcompress.runtime.session import Session, TensorSignature


def inspect_model(model: str | os.PathLike[str], *, timed: bool = False) -> InspectReport:
    """Counts parameters, bytes and multiply-accumulates, on one made-up sample.

    Args:
        model: path of an .onnx file.
        timed: also profile a run in onnxruntime, single-threaded.

    Raises:
        ModelError: the file is not a model.
        SessionError: onnxruntime does not load it.
    """
    path = Path(model)
    loaded = io.load(path)
    session = Session(path)
    context = RuntimeContext()
    notes: list[str] = []
    times: tuple[OpTime, ...] = ()
    types = context.types(loaded)
    if not types:
        notes.append("shapes are not known: the model does not run on made-up inputs")
    if timed:
        try:
            feed = next(context.sample(loaded).batches(1)).feeds
            times = profile(path, feed).rows
        except (SessionError, DataError) as fault:
            notes.append(f"no profile: {fault}")
    notes += zero_notes(loaded)
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
    )


def _in_words(tensor: TensorSignature) -> str:
    shape = ", ".join("?" if length is None else str(length) for length in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} [{shape}]"
