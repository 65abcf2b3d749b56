"""Does a rewritten model load, run, and give the same outputs?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcompress.data.casting import is_float
from onnxcompress.errors import DataError, ModelError, SessionError
from onnxcompress.ir import query
from onnxcompress.ir.model import Model
from onnxcompress.ir.ops import RANDOM_OPS
from onnxcompress.ir.opset import cannot_be_raised
from onnxcompress.runtime.calibration import watch
from onnxcompress.runtime.loading import session_of
from onnxcompress.runtime.session import SessionSettings

if TYPE_CHECKING:
    from onnxcompress.runtime.context import RuntimeContext

EXACT_TOLERANCE = 1e-4
"""Largest difference allowed, relative to the output's largest magnitude."""

HALF_TOLERANCE = 1e-2
"""The same for outputs of 16 bits: a few units in the last place of float16 or bfloat16."""

QUANTIZED_TOLERANCE = 0.05
"""The same for a model that already quantizes: a last-bit change may move a value one level."""

MAX_RUN_BYTES = 700 << 20
"""Models with more weights than this, as floats, are checked by structure alone: they may be held
twice, once by us and once by onnxruntime, which may also dequantize all of them before it uses the
first; and passes over a model of any size should do with 2 GB of memory.
"""

NOISE_MARGIN = 4
"""Where onnxruntime's own optimizations already change the outputs, as they do where an output is
next to nothing, a pass may change them this many times as much.
"""

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
        self._noise = 0.0
        self._unrunnable = ""
        if _is_large(model):
            return
        try:
            feeds = next(context.sample(model).batches(1)).feeds
            self._outputs = _run(model, feeds)
            self._noise = _largest(self._outputs, _run(model, feeds, optimize=False))
            self._feeds = feeds
        except (SessionError, DataError) as fault:
            if context.data is not None:
                raise
            self._unrunnable = str(fault)

    def after(self, model: Model, *, exact: bool) -> str:
        """Checks the model as it now is and says, in words, what was shown.

        Raises:
            SessionError: it does not load or run.
            ModelError: its outputs have other names or element types, or should be equal and are
                not.
        """
        if _is_large(model):
            return f"structure only: over {MAX_RUN_BYTES >> 20} MiB of weights"
        if self._feeds is None:
            if self._unrunnable:
                session_of(model, SessionSettings(prepack=False))
                return (
                    f"loads; made-up inputs do not run on the original either: {self._unrunnable}"
                )
            self._feeds = next(self._context.sample(model).batches(1)).feeds
            self._outputs = _run(model, self._feeds)
            return "loads and runs"
        outputs = _run(model, self._feeds)
        _check_kinds(self._outputs, outputs)
        shown = "loads and runs"
        if exact and query.nodes(model, RANDOM_OPS):
            shown = "loads and runs; outputs are random, so they were not compared"
        elif exact:
            shown = f"outputs equal within {self._compare(model, outputs):.0e} (relative)"
        self._outputs = outputs
        return shown

    def raised(self, before: Model, model: Model) -> None:
        """Checks a model that was raised to a later operator set, by the run before.

        Args:
            before: the model in its own operator set.
            model: the same, raised.

        Raises:
            ModelError: it does not run or its outputs are others; names both operator sets, and
                the first node that computes something else where one does.
        """
        try:
            self.after(model, exact=True)
        except (ModelError, SessionError) as fault:
            told = cannot_be_raised(before.opset, model.opset)
            raise ModelError(f"{told}: {self._first_other(before, model)}{fault}") from fault

    def _first_other(self, before: Model, model: Model) -> str:
        """Names the first node whose result is not what it was; nothing where that is unclear."""
        after = {t.name: node for node in model.graph.nodes for t in node.outputs}
        writers = {t.name: n for n in before.graph.nodes for t in n.outputs if t.name in after}
        writers.pop("", None)
        if self._feeds is None or not writers:
            return ""
        try:
            runs = [watch(each, list(writers)).run(self._feeds) for each in (before, model)]
            for name, node in writers.items():
                if _difference(name, runs[0][name], runs[1][name]) > EXACT_TOLERANCE:
                    return f"from node {node.name!r} ({node.op}) on, "
        except (ModelError, SessionError):
            return ""
        return ""

    def _compare(self, model: Model, outputs: Mapping[str, np.ndarray]) -> float:
        quantized = bool(query.nodes(model, _QUANTIZERS))
        halves = any(
            value.dtype.itemsize == 2 and is_float(value.dtype) for value in outputs.values()
        )
        limit = HALF_TOLERANCE if halves else EXACT_TOLERANCE
        limit = QUANTIZED_TOLERANCE if quantized else limit
        worst = _largest(self._outputs, outputs)
        if worst > max(limit, NOISE_MARGIN * self._noise):
            raise ModelError(f"outputs should stay equal but differ by {worst:.1e} (relative)")
        return worst


def _is_large(model: Model) -> bool:
    return 4 * model.parameters > MAX_RUN_BYTES


def _run(
    model: Model, feeds: Mapping[str, np.ndarray], *, optimize: bool = True
) -> Mapping[str, np.ndarray]:
    return session_of(model, SessionSettings(optimize=optimize, prepack=False)).run(feeds)


def _largest(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> float:
    return max((_difference(name, before[name], after[name]) for name in before), default=0.0)


def _check_kinds(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> None:
    """Whatever a pass does, callers still find the outputs they know."""
    if list(before) != list(after):
        raise ModelError(f"outputs changed from {', '.join(before)} to {', '.join(after)}")
    for name, value in after.items():
        if value.dtype != before[name].dtype:
            raise ModelError(f"output {name!r} changed from {before[name].dtype} to {value.dtype}")


def _difference(name: str, before: Any, after: Any) -> float:
    members, others = _members(before), _members(after)
    if members is not None and others is not None:
        if len(members) != len(others):
            return np.inf
        pairs = zip(members, others, strict=True)
        return max((_difference(name, one, other) for one, other in pairs), default=0.0)
    if isinstance(before, float) and isinstance(after, float):
        before, after = np.asarray(before), np.asarray(after)
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
        return 0.0 if before == after else np.inf
    if before.shape != after.shape or before.dtype != after.dtype:
        raise ModelError(
            f"output {name!r} changed from {before.dtype} {list(before.shape)} "
            f"to {after.dtype} {list(after.shape)}"
        )
    return _largest_gap(before, after)


def _members(value: Any) -> list[Any] | None:
    """What a sequence, a map or an array of strings holds; None for anything else."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(value.flat)
    return value if isinstance(value, list) else None


def _largest_gap(before: np.ndarray, after: np.ndarray) -> float:
    if before.size == 0:
        return 0.0
    if before.dtype.kind == "c":
        parts = [part(array) for array in (before, after) for part in (np.real, np.imag)]
        return max(_largest_gap(parts[0], parts[2]), _largest_gap(parts[1], parts[3]))
    if not is_float(before.dtype):
        return 0.0 if np.array_equal(before, after) else np.inf
    before, after = before.astype(np.float64), after.astype(np.float64)
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    if same.all():
        return 0.0
    scale = np.abs(before[np.isfinite(before)]).max(initial=0.0) or 1.0
    gap = np.abs(np.subtract(after, before, where=~same, out=np.zeros_like(before)))
    return float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max() / scale)
