"""Tells by version where the installed onnxruntime is too old for a model, not in its words."""

from __future__ import annotations

from onnxcompress.errors import SessionError
from onnxcompress.ir.model import Model
from onnxcompress.releases import NEWEST, Release, demands
from onnxcompress.runtime.session import ONNXRUNTIME_VERSION


def require_runtime(model: Model, installed: str = ONNXRUNTIME_VERSION) -> None:
    """Checks that onnxruntime is new enough for a model, as far as we know.

    Raises:
        SessionError: it is not; what needs which version is told.
    """
    here = Release.parse(installed)
    if here >= NEWEST:
        return
    for demand in demands(model):
        if here < demand.since:
            raise SessionError(f"{demand}; this is {installed}")
