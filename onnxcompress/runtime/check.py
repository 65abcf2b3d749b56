"""Does a rewritten model load, run, and give the same outputs?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxcompress.errors import DataError, ModelError, SessionError
from onnxcompress.ir import io, query
from onnxcompress.ir.model import Model
from onnxcompress.runtime.context import RuntimeContext
from onnxcompress.runtime.session import Session, SessionSettings

EXACT_TOLERANCE = 1e-4
"""Largest difference allowed, relative to the output's largest magnitude."""

QUANTIZED_TOLERANCE = 0.05
"""The same for a model that already quantizes: a last-bit change may move a value one level."""

MAX_RUN_BYTES = 1 << 30
"""Models with more weights than this are checked by structure alone, to bound memory."""

_QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})


class RunCheck:
    """Runs a sample through the model after each change and compares with the run before.

    Args:
        model: the model before any change.
        context: where the sample comes from.
    """

    def __init__(self, model: Model, context: RuntimeContext):
        self._context = context
        self._feeds: Mapping[str, np.ndarray] | None = None
        self._outputs: Mapping[str, np.ndarray] = {}
        self._unrunnable = ""
        if model.weight_bytes > MAX_RUN_BYTES:
            return
        try:
            feeds = next(context.sample(model).batches(1)).feeds
            self._outputs = _run(model, feeds)
            self._feeds = feeds
        except (SessionError, DataError) as fault:
            if context.data is not None:
                raise
            self._unrunnable = str(fault)

    def after(self, model: Model, *, exact: bool) -> str:
        """Checks the model as it now is and says, in words, what was shown.

        Raises:
            SessionError: it does not load or run.
            ModelError: it should give equal outputs and does not.
        """
        if model.weight_bytes > MAX_RUN_BYTES:
            return f"structure only: over {MAX_RUN_BYTES >> 30} GiB of weights"
        if self._feeds is None:
            if self._unrunnable:
                Session(io.to_bytes(model), SessionSettings(prepack=False))
                return (
                    f"loads; made-up inputs do not run on the original either: {self._unrunnable}"
                )
            self._feeds = next(self._context.sample(model).batches(1)).feeds
            self._outputs = _run(model, self._feeds)
            return "loads and runs"
        outputs = _run(model, self._feeds)
        if exact:
            worst = self._compare(model, outputs)
        self._outputs = outputs
        return f"outputs equal within {worst:.0e} (relative)" if exact else "loads and runs"

    def _compare(self, model: Model, outputs: Mapping[str, np.ndarray]) -> float:
        quantized = bool(query.nodes(model, _QUANTIZERS))
        limit = QUANTIZED_TOLERANCE if quantized else EXACT_TOLERANCE
        worst = max(
            (_difference(name, self._outputs[name], value) for name, value in outputs.items()),
            default=0.0,
        )
        if worst > limit:
            raise ModelError(f"outputs should stay equal but differ by {worst:.1e} (relative)")
        return worst


def _run(model: Model, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    return Session(io.to_bytes(model), SessionSettings(prepack=False)).run(feeds)


def _difference(name: str, before: object, after: object) -> float:
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
        return 0.0 if repr(before) == repr(after) else np.inf
    if before.shape != after.shape or before.dtype != after.dtype:
        raise ModelError(
            f"output {name!r} changed from {before.dtype} {list(before.shape)} "
            f"to {after.dtype} {list(after.shape)}"
        )
    if before.dtype.kind not in "fc" or before.size == 0:
        return 0.0 if np.array_equal(before, after) else np.inf
    before, after = before.astype(np.float64), after.astype(np.float64)
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    if same.all():
        return 0.0
    scale = np.abs(before[np.isfinite(before)]).max(initial=0.0) or 1.0
    gap = np.abs(np.where(same, 0.0, after - before))
    return float(np.nan_to_num(gap, nan=np.inf).max() / scale)
