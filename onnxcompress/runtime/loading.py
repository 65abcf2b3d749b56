"""Loads a model that is in memory into onnxruntime."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from onnxcompress.errors import OutputError, SessionError
from onnxcompress.ir import io
from onnxcompress.ir.model import Model
from onnxcompress.runtime.session import Session, SessionSettings
from onnxcompress.runtime.too_old import require_runtime

MESSAGE_BYTES = 4 << 20
"""Models with more weights than this go through a temporary file."""


def session_of(model: Model, settings: SessionSettings) -> Session:
    """A session for a model as it stands.

    onnxruntime maps weights that lie in a file. Handed over as bytes they would be held four times:
    as a message, as bytes, as onnxruntime's message and as its tensors.

    Raises:
        SessionError: onnxruntime refuses the model, or is too old for it.
        ModelError: it is larger than 2 GiB, and there is no disk space for a temporary file.
    """
    require_runtime(model)
    if model.weight_bytes <= MESSAGE_BYTES:
        return Session(io.to_bytes(model), settings)
    # A mapped file cannot be deleted on Windows; its folder is left to the system then.
    with TemporaryDirectory(prefix="onnxcompress-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "model.onnx")
        try:
            io.save(model, path, external=True)
        except OutputError:
            return Session(io.to_bytes(model), settings)
        try:
            return Session(path, settings)
        except SessionError as fault:
            raise SessionError(str(fault).replace(str(path), "the model")) from fault
