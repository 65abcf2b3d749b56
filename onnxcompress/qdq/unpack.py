"""Writing the nodes that give a packed weight back as float32.

BitShift, Mod, Cast, CumSum, Gather from a codebook, Mul by a scale: standard operators that read
stored tensors alone, so onnxruntime computes them once, when the session loads (measured with 1.31,
1 to 64 MB of float weights), and runs the graph as if the weight had been stored as float32.
Loading takes longer for it and, while it lasts, about three times the memory of the float model.

Source: ONNX BitShift, CumSum, GatherElements, Pad (opset 11), Mod (10), Gather (1-13), Slice (10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Attribute, Editor
from onnxcompress.ir.model import Constant, Node, Tensor, Variable
from onnxcompress.qdq.insert import FLOAT
from onnxcompress.quantization.bitpack import CodedWeight, Codes, pack, row_offsets, unpack
from onnxcompress.quantization.groups import Groups, groups_of
from onnxcompress.quantization.qparams import QParams, integer_limits, quantize

OPSET = 11
"""The lowest opset the nodes can be written in."""

INT32 = np.dtype(np.int32)

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


def dequantized_at_load(
    edit: Editor,
    weight: Constant,
    values: np.ndarray,
    qparams: QParams,
    bits: int,
    near: Node,
) -> Variable:
    """Stores a weight as integers, with operators that onnxruntime evaluates when it loads.

    Args:
        edit: records the change.
        weight: what is stored in another form; lends its name and shape.
        values: float values of that shape; integers if they are quantized already.
        qparams: how.
        bits: 2, 4, 8 or 16; codes below a byte are packed.
        near: the nodes stand beside this one.

    Returns:
        float32 in the weight's shape: (integers - zero points) * scale, bit for bit.
    """
    writer = _Writer(edit, weight.name, near)
    integers = values if values.dtype == qparams.zero_point.dtype else quantize(values, qparams)
    groups = groups_of(weight.shape, qparams.granularity)
    lowest = integer_limits(integers.dtype)[0] if bits < 8 else 0
    zeros = qparams.zero_point.astype(np.int32) - lowest
    codes = integers.astype(np.int32).reshape(groups.view) - lowest
    levels = writer.divided(writer.levels(codes, bits, integers.dtype, "quantized"), groups)
    if zeros.min() == zeros.max():
        if zeros.any():
            middle = edit.shared("middle", zeros.reshape(-1)[0].astype(np.float32))
            levels = writer.add("Sub", [levels, middle], "centred", FLOAT)
    else:
        zero = writer.levels(zeros.reshape(groups.numbers), bits, integers.dtype, "zero_point")
        levels = writer.add("Sub", [levels, zero], "centred", FLOAT)
    scale = edit.shared(f"{weight.name}_scale", qparams.scale.reshape(groups.numbers))
    real = writer.joined(writer.add("Mul", [levels, scale], "dequantized", FLOAT), groups)
    real.shape = weight.shape
    return real


BITMAP_NODE_BYTES = 1200
"""What the nodes that spread a bitmap take in a file, measured."""


def takes_bitmap(dtype: np.dtype, opset: int) -> bool:
    """Whether GatherElements takes elements of this type in this opset."""
    return dtype.kind in "fiub" or (dtype.name == "bfloat16" and opset >= 13)


def spread(edit: Editor, weight: Constant, near: Node) -> Variable:
    """Stores a weight as its non-zero values and one bit an element that tells where they are.

    The running sum of the bits numbers the values; number 0 is a zero put before them. Negative
    zeros come back as zeros, everything else bit for bit.

    Args:
        edit: records the change.
        weight: of fewer than 2**31 elements, of a type for which `takes_bitmap`; lends its name
            and shape.
        near: the nodes stand beside this one.

    Returns:
        The weight's type and shape.
    """
    writer = _Writer(edit, weight.name, near)
    flat = np.ascontiguousarray(weight.values).reshape(-1)
    taken = flat != 0
    bits = writer.codes(taken.astype(np.uint8), 1)
    start = edit.shared("first_axis", np.array(0, np.int64))
    count = writer.add("CumSum", [bits, start], "count", INT32)
    number = writer.add("Mul", [count, bits], "number", INT32)
    values = edit.constant(
        f"{weight.name}_nonzero", np.append(np.zeros(1, flat.dtype), flat[taken])
    )
    # Five times as fast as Gather on single elements, which is most of what loading takes.
    dense = writer.add("GatherElements", [values, number], "flat", weight.dtype)
    whole = writer.reshaped(dense, weight.shape, weight.dtype)
    whole.shape = weight.shape
    return whole


@dataclass(frozen=True)
class Bitmap:
    """What `spread` stored.

    Attributes:
        packed: uint8 [1, bytes], a bit for each element; see `quantization.bitpack`.
        values: a zero, then the elements that are not zero.
        shape: of the whole.
    """

    packed: Constant
    values: Constant
    shape: tuple[int, ...]

    def load(self) -> np.ndarray:
        """The whole, zeros included."""
        dense = np.zeros(math.prod(self.shape), self.values.dtype)
        taken = unpack(self.packed.values, 1, dense.size).astype(bool)
        dense[taken] = self.values.values[1:]
        return dense.reshape(self.shape)


def bitmap_of(tensor: Tensor) -> Bitmap | None:
    """What stands behind a tensor that `spread` gave; None for any other."""
    path: list[Node] = []
    for op in ("Reshape", "GatherElements", "Mul", "CumSum"):
        node = query.producer_of(tensor, op)
        if node is None:
            return None
        path.append(node)
        tensor = node.inputs[1 if op == "GatherElements" else 0]
    while (node := query.producer(tensor)) is not None:
        tensor = node.inputs[0]
    values, shape = query.constant(path[1], 0), query.constant(path[0], 1)
    if not isinstance(tensor, Constant) or values is None or shape is None:
        return None
    return Bitmap(tensor, values, tuple(map(int, shape.values)))


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
        index = self.codes(term.codes, term.bits)
        if offsets.any():
            rows = self._edit.shared(f"{self._base}_rows", offsets)
            index = self.add("Add", [index, rows], "entries", INT32)
        codebook = self._edit.shared(f"{self._base}_codebook", term.codebook.reshape(-1))
        real = self.add("Gather", [codebook, index], "unscaled", FLOAT)
        if term.scale is None:
            return real
        scale = self._edit.shared(f"{self._base}_scale", term.scale)
        return self.add("Mul", [real, scale], "scaled", FLOAT)

    def levels(self, levels: np.ndarray, bits: int, dtype: np.dtype, what: str) -> Variable:
        """Stores integers, as `dtype` or packed below a byte, and gives them back as float32."""
        if bits < 8:
            stored: Tensor = self.codes(levels.astype(np.uint8), bits)
        else:
            stored = self._edit.shared(f"{self._base}_{what}", levels.astype(dtype))
        return self.add("Cast", [stored], f"{what}_levels", FLOAT, to=_FLOAT_TYPE)

    def divided(self, whole: Variable, groups: Groups) -> Variable:
        """The `split` shape of the groups from their `view`, zeros in the padding."""
        if groups.padded != groups.view:
            gap = groups.padded[1] - groups.view[1]
            pads = self._edit.shared(f"{self._base}_pads", np.array([0, 0, 0, 0, gap, 0], np.int64))
            whole = self.add("Pad", [whole, pads], "padded", FLOAT)
        elif groups.split == groups.view:
            return whole
        return self.reshaped(whole, groups.split, FLOAT)

    def joined(self, divided: Variable, groups: Groups) -> Variable:
        """The weight's shape, without the padding of blocks."""
        if groups.padded != groups.view:
            divided = self.reshaped(divided, groups.padded, FLOAT)
            divided = self._first(divided, groups.view[1], axis=1, dtype=FLOAT)
        elif groups.split == groups.shape:
            return divided
        return self.reshaped(divided, groups.shape, FLOAT)

    def codes(self, codes: np.ndarray, bits: int) -> Variable:
        """Stores codes packed and gives them back as int32, which Gather takes, in their shape."""
        byte = np.dtype(np.uint8)
        packed = pack(codes, bits)
        small: Tensor = self._edit.shared(f"{self._base}_packed", packed)
        if bits < 8:
            shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, 1)
            shared = self._edit.shared(f"shifts_{bits}", shifts)
            small = self.add("BitShift", [small, shared], "shifted", byte, direction="RIGHT")
            levels = self._edit.shared(f"levels_{bits}", np.array(1 << bits, np.uint8))
            small = self.add("Mod", [small, levels], "codes", byte)
        index = self.add("Cast", [small], "index", INT32, to=_INT32_TYPE)
        if packed.size * 8 // bits > codes.size:  # a byte holds more than is left
            index = self.reshaped(index, (-1,), INT32)
            index = self._first(index, codes.size, axis=0, dtype=INT32)
        return self.reshaped(index, codes.shape, INT32)

    def reshaped(self, tensor: Variable, shape: tuple[int, ...], dtype: np.dtype) -> Variable:
        target = self._edit.shared(f"{self._base}_shape", np.array(shape, np.int64))
        return self.add("Reshape", [tensor, target], "reshaped", dtype)

    def _first(self, tensor: Variable, count: int, *, axis: int, dtype: np.dtype) -> Variable:
        ends = (("start", 0), ("count", count), ("axis", axis))
        bounds = [self._edit.shared(f"{name}_{n}", np.array([n], np.int64)) for name, n in ends]
        return self.add("Slice", [tensor, *bounds], "without_padding", dtype)
