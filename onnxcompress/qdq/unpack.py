"""Writing the nodes that give a packed weight back as float32.

BitShift, Mod, Cast, Gather from a codebook, Mul by a scale: standard operators that read stored
tensors alone, so onnxruntime computes them once, when the session loads (measured with 1.31, 1 to
64 MB of float weights), and runs the graph as if the weight had been stored as float32. Loading
takes longer for it and, while it lasts, about three times the memory of the float model.

Source: ONNX BitShift (opset 11), Mod (10), Gather (1-13), Slice (10).
"""

from __future__ import annotations

import numpy as np

from onnxcompress.ir.edit import Attribute, Editor
from onnxcompress.ir.model import Constant, Node, Tensor, Variable
from onnxcompress.qdq.insert import FLOAT
from onnxcompress.quantization.bitpack import CodedWeight, Codes, pack, row_offsets
from onnxcompress.quantization.groups import Groups

OPSET = 11
"""The lowest opset the nodes can be written in."""

_FLOAT_TYPE = 1
_INT32_TYPE = 6


def unpacked(edit: Editor, weight: Constant, coded: CodedWeight, near: Node) -> Variable:
    """Stores a coded weight and adds the nodes that give it back.

    Args:
        edit: records the change.
        weight: what is stored in another form; lends its name and shape.
        coded: that form.
        near: the nodes stand beside this one.

    Returns:
        float32, in the weight's shape: `coded.values()` bit for bit.
    """
    writer = _Writer(edit, weight.name, near)
    total = writer.term(coded.terms[0], coded.groups)
    for term in coded.terms[1:]:
        total = writer.add("Add", [total, writer.term(term, coded.groups)], "sum", FLOAT)
    real = writer.joined(total, coded.groups)
    real.shape = weight.shape
    return real


def widened(
    edit: Editor, weight: Constant, small: np.ndarray, scale: np.ndarray | None, near: Node
) -> Variable:
    """Stores a weight in a smaller float type, with a Cast to float32 and a Mul if it has a scale.

    Args:
        edit: records the change.
        weight: what is stored in another form; lends its name.
        small: the weight, or the weight divided by `scale`, in the smaller type.
        scale: float32, broadcasts with the weight.
        near: the nodes stand beside this one.
    """
    writer = _Writer(edit, weight.name, near)
    stored = edit.constant(f"{weight.name}_{small.dtype.name}", small)
    real = writer.add("Cast", [stored], "float32", FLOAT, to=_FLOAT_TYPE)
    if scale is not None:
        factor = edit.shared(f"{weight.name}_scale", scale)
        real = writer.add("Mul", [real, factor], "scaled", FLOAT)
    real.shape = weight.shape
    return real


class _Writer:
    """Adds nodes named after one weight."""

    def __init__(self, edit: Editor, base: str, near: Node):
        self._edit = edit
        self._base = base
        self._near = near

    def add(
        self, op: str, inputs: list[Tensor], what: str, dtype: np.dtype, **attrs: Attribute
    ) -> Variable:
        base = f"{self._base}_{what}"
        return self._edit.add(op, inputs, near=self._near, base=base, attrs=attrs, dtype=dtype)

    def term(self, term: Codes, groups: Groups) -> Variable:
        """float32 in the `split` shape of the groups."""
        offsets = row_offsets(term, groups)
        index = self._index(term)
        if offsets.any():
            rows = self._edit.shared(f"{self._base}_rows", offsets)
            index = self.add("Add", [index, rows], "entries", np.dtype(np.int32))
        codebook = self._edit.shared(f"{self._base}_codebook", term.codebook.reshape(-1))
        real = self.add("Gather", [codebook, index], "unscaled", FLOAT)
        if term.scale is None:
            return real
        scale = self._edit.shared(f"{self._base}_scale", term.scale)
        return self.add("Mul", [real, scale], "scaled", FLOAT)

    def joined(self, divided: Variable, groups: Groups) -> Variable:
        """The weight's shape, without the padding of blocks."""
        if groups.padded != groups.view:
            divided = self._reshaped(divided, groups.padded, FLOAT)
            divided = self._first(divided, groups.view[1], axis=1, dtype=FLOAT)
        elif groups.split == groups.shape:
            return divided
        return self._reshaped(divided, groups.shape, FLOAT)

    def _index(self, term: Codes) -> Variable:
        """The codes as int32, which Gather takes, in their shape."""
        byte = np.dtype(np.uint8)
        packed = pack(term.codes, term.bits)
        codes: Tensor = self._edit.constant(f"{self._base}_packed", packed)
        if term.bits < 8:
            shifts = np.arange(0, 8, term.bits, dtype=np.uint8).reshape(-1, 1)
            shared = self._edit.shared(f"shifts_{term.bits}", shifts)
            codes = self.add("BitShift", [codes, shared], "shifted", byte, direction="RIGHT")
            levels = self._edit.shared(f"levels_{term.bits}", np.array(1 << term.bits, np.uint8))
            codes = self.add("Mod", [codes, levels], "codes", byte)
        index = self.add("Cast", [codes], "index", np.dtype(np.int32), to=_INT32_TYPE)
        if packed.size * 8 // term.bits > term.codes.size:  # a byte holds more than is left
            index = self._reshaped(index, (-1,), np.dtype(np.int32))
            index = self._first(index, term.codes.size, axis=0, dtype=np.dtype(np.int32))
        return self._reshaped(index, term.codes.shape, np.dtype(np.int32))

    def _reshaped(self, tensor: Variable, shape: tuple[int, ...], dtype: np.dtype) -> Variable:
        target = self._edit.shared(f"{self._base}_shape", np.array(shape, np.int64))
        return self.add("Reshape", [tensor, target], "reshaped", dtype)

    def _first(self, tensor: Variable, count: int, *, axis: int, dtype: np.dtype) -> Variable:
        ends = (("start", 0), ("count", count), ("axis", axis))
        bounds = [self._edit.shared(f"{name}_{n}", np.array([n], np.int64)) for name, n in ends]
        return self.add("Slice", [tensor, *bounds], "without_padding", dtype)
