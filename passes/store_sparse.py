"""Stores tensors without their zeros; computation stays dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from onnxcompress.errors import RecipeError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node
from onnxcompress.ir.sparse import (
    INDEX_BYTES,
    LEAST_SPARSE_GAIN,
    SMALLEST_SPARSE,
    SparseArray,
    why_not_sparse,
)
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.unpack import BITMAP_NODE_BYTES, OPSET, spread, takes_bitmap


class SparseForm(Enum):
    """How a file tells where the values are that are not zero."""

    SPARSE_INITIALIZER = "sparse-initializer"
    BITMAP = "bitmap"
    SMALLEST = "smallest"


@dataclass(frozen=True, kw_only=True)
class StoreSparse(Pass):
    """MatMul(x, W)  ->  MatMul(x, W), stored without its zeros.

    Zeros that lie anywhere save bytes, not time: onnxruntime spreads the tensor out when it loads
    the model and multiplies by zeros like by other numbers. Only what `strip-pruned` cuts saves
    time too. Meant as the last pass: one that changes such a tensor later stores it dense again.

    A `sparse_initializer` takes the bytes of each value left and 8 for its place, the one index
    that ONNX has: 12 for a float32, so two thirds must be zeros before it is smaller at all. A
    bitmap takes the values and one bit an element, so it is the smaller one down to 1 value in 64,
    and half of zeros already halve the file; standard nodes that onnxruntime computes once, when
    it loads the model, put the values in place. That makes loading up to 9 times as long (measured
    on three models) and takes 24 bytes of memory for each element while it lasts.

    Attributes:
        form: `smallest` takes for each tensor what takes fewer bytes.
        least_gain: the share of a tensor's bytes that must go, from 0 to 1.
        min_elements: smaller tensors stay as they are.
    """

    name: ClassVar[str] = "store-sparse"
    exact: ClassVar[bool] = True
    opset: ClassVar[int] = OPSET

    form: SparseForm = SparseForm.SMALLEST
    least_gain: float = LEAST_SPARSE_GAIN
    min_elements: int = SMALLEST_SPARSE

    def __post_init__(self) -> None:
        if not 0 <= self.least_gain < 1:
            raise RecipeError(f"pass {self.name!r}: least_gain must be from 0 to below 1")

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        outermost = query.outermost(model)
        for constant in model.constants():
            readers = query.consumers(constant)
            if not readers:  # a graph returns it, and nothing else
                continue
            options = [self.at(reader) for reader in readers]
            first = options[0]
            if first is None or None in options:
                edit.skip(readers[options.index(None)], EXCLUDED)
                continue
            reason = first._unfit(model, constant) or first._store(
                edit, constant, readers, outermost
            )
            if reason is not None:
                edit.skip(readers[0], f"{constant.name}: {reason}")

    def _unfit(self, model: Model, constant: Constant) -> str | None:
        """Why a tensor stays as it is, whatever its values are; None if it need not."""
        if isinstance(constant.stored, SparseArray):
            return "is stored sparse already"
        if constant.size < self.min_elements:
            return f"{constant.size} elements < min_elements={self.min_elements}"
        if model.is_output(constant):
            return "a graph returns it as it stands"
        if any(node.op == "BitShift" for node in query.consumers(constant)):
            return "holds bits that are packed already"
        return why_not_sparse(constant.shape, constant.dtype)

    def _store(
        self,
        edit: Editor,
        constant: Constant,
        readers: list[Node],
        outermost: Mapping[Node, Node],
    ) -> str | None:
        """Stores a tensor in the smaller form allowed; or says why it is not worth it."""
        forms = self._forms(constant, readers, edit.model.opset)
        if not forms:
            return "a bitmap does not suit its element type or an operator of another domain"
        values = int(np.count_nonzero(constant.values))
        limit = (1 - self.least_gain) * constant.nbytes
        form = min(forms, key=lambda each: forms[each].bytes(values))
        if forms[form].bytes(values) > limit:
            most = max(cost.values_within(limit) for cost in forms.values())
            share = f"{1 - most / constant.size:.2%}" if most >= 0 else "100%"
            return f"needs {share} zeros to be smaller, has {1 - values / constant.size:.2%}"
        stored = (
            edit.constant(constant.name, SparseArray.of(constant.values))
            if form is SparseForm.SPARSE_INITIALIZER
            else spread(edit, constant, outermost[readers[0]])
        )
        for reader in readers:
            for index, tensor in enumerate(list(reader.inputs)):
                if tensor is constant:
                    edit.set_input(reader, index, stored, f"{constant.name} stored as {form.value}")
        return None

    def _forms(
        self, constant: Constant, readers: list[Node], opset: int
    ) -> Mapping[SparseForm, _Cost]:
        """What each form that is allowed here takes."""
        width = constant.dtype.itemsize
        forms = {
            SparseForm.SPARSE_INITIALIZER: _Cost(0, width + INDEX_BYTES),
            SparseForm.BITMAP: _Cost(constant.size // 8 + width + BITMAP_NODE_BYTES, width),
        }
        # Operators of other domains may want weights that are stored as such.
        others = any(node.domain not in STANDARD for node in readers)
        if others or not takes_bitmap(constant.dtype, opset):
            del forms[SparseForm.BITMAP]
        if self.form is SparseForm.SMALLEST:
            return forms
        return {self.form: forms[self.form]} if self.form in forms else {}


@dataclass(frozen=True)
class _Cost:
    """Bytes of a tensor with some number of values that are not zero."""

    fixed: float
    each: int

    def bytes(self, values: int) -> float:
        return self.fixed + self.each * values

    def values_within(self, limit: float) -> int:
        return int((limit - self.fixed) // self.each)
