"""Stores weights, or computes, in smaller floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.errors import RecipeError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Variable
from onnxcompress.pass_base import EXCLUDED, Context
from onnxcompress.qdq import float16
from onnxcompress.qdq.stored_weights import WeightStorage
from onnxcompress.qdq.unpack import widened
from onnxcompress.quantization.small_float import BFLOAT16, FLOAT8, FLOAT16, narrow
from onnxcompress.tensor_types import TensorTypes


class SmallFloat(Enum):
    """The floats to convert to, by the names recipes use."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8_E4M3FN = "float8e4m3fn"


class Scope(Enum):
    """What is converted, by the names recipes use."""

    STORAGE = "storage"
    GRAPH = "graph"


_DTYPES = {
    SmallFloat.FLOAT16: FLOAT16,
    SmallFloat.BFLOAT16: BFLOAT16,
    SmallFloat.FLOAT8_E4M3FN: FLOAT8,
}
_OPSETS = {SmallFloat.FLOAT16: 9, SmallFloat.BFLOAT16: 13, SmallFloat.FLOAT8_E4M3FN: 19}
"""The first opset whose Cast knows the type."""


@dataclass(frozen=True, kw_only=True)
class ConvertFloat(WeightStorage):
    """MatMul(x, W)  ->  MatMul(x, Cast(W_float16)); or float16 throughout, Casts at the ends.

    Scope `storage` halves the file (float8: a quarter, with a scale for each output channel) at the
    speed of the float model: onnxruntime folds the Casts when the session loads.

    Scope `graph` is for runtimes that compute in float16. onnxruntime's CPU provider on x86-64
    (1.31, measured) has float16 kernels for what moves values, for LayerNormalization, Clip, Min
    and Max, but not for Conv, MatMul, Gemm, elementwise arithmetic, activations, pooling or
    reductions: those compute in float32 between Casts that it inserts (real models: 1.0 to 1.1
    times the float32 time, half the file). Inputs and outputs of the model stay float32. A node
    stays float32, and is recorded, if the calibration data take its inputs or outputs beyond 65504,
    if its operator overflows easily, or if float16 would round its epsilon to zero.

    Attributes:
        dtype: the smaller float; scope `graph` takes float16 alone.
        scope: the weights, or the whole graph.
        min_elements: smaller weights stay as they are; for scope `storage`.
    """

    name: ClassVar[str] = "convert-float"
    opset: ClassVar[int] = 9

    dtype: SmallFloat = SmallFloat.FLOAT16
    scope: Scope = Scope.STORAGE

    def __post_init__(self) -> None:
        if self.scope is Scope.GRAPH and self.dtype is not SmallFloat.FLOAT16:
            raise RecipeError(f"pass {self.name!r}: scope graph takes dtype float16 alone")

    def required_opset(self) -> int:
        """See `Pass.required_opset`."""
        return _OPSETS[self.dtype]

    def packs_halves(self) -> bool:
        """See `Pass.packs_halves`."""
        return self.dtype is SmallFloat.FLOAT8_E4M3FN

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        if self.scope is Scope.STORAGE:
            super().run(model, edit, context)
            return
        types = TensorTypes(model, context)
        magnitudes = _largest(model, float16.float_tensors(model, types), context)
        chosen = float16.plan(model, types, magnitudes, self._excluded, edit.skip)
        float16.convert(edit, chosen)

    def restore(self, edit: Editor, weight: Constant, axis: int, near: Node) -> Variable | str:
        """See `WeightStorage.restore`."""
        small = narrow(weight.values, _DTYPES[self.dtype], axis)
        if not np.isfinite(small.widened()).all():
            return f"its weight leaves the range of {self.dtype.value}"
        return widened(edit, weight, small.values, small.scale, near)

    def _excluded(self, node: Node) -> str | None:
        return EXCLUDED if self.at(node) is None else None


def _largest(model: Model, tensors: list[str], context: Context) -> Mapping[str, float]:
    """The largest magnitude of each tensor over the calibration data; infinite for NaN too.

    Not from `Context.ranges`, which refuses infinities: here they are a reason to stay float32.
    """
    seen = dict.fromkeys(tensors, 0.0)
    for batch in context.activations(model, tensors):
        for name, values in batch.items():
            largest = float(np.abs(values).max(initial=0.0))
            seen[name] = max(seen[name], np.inf if np.isnan(largest) else largest)
    return seen
