"""Tables that Gather reads, stored as integers of 2 to 16 bits."""

from __future__ import annotations

import numpy as np
from onnx import helper

from onnxcompress.ir.edit import Attribute, Editor
from onnxcompress.ir.model import Constant, Node, Tensor, Variable
from onnxcompress.qdq.candidates import not_float32
from onnxcompress.qdq.insert import FLOAT, is_symmetric
from onnxcompress.quantization.granularity import Granularity, PerBlock, PerChannel
from onnxcompress.quantization.nibbles import pack_last_axis, per_byte
from onnxcompress.quantization.qparams import (
    SIGNED,
    UNSIGNED,
    QParams,
    integer_limits,
    quantize,
    symmetric_qparams,
)

_FLOAT_TYPE = 1
_INT32_TYPE = 6
_WIDE = {
    **{SIGNED[bits]: SIGNED[8] for bits in (2, 4)},
    **{UNSIGNED[bits]: UNSIGNED[8] for bits in (2, 4)},
}
"""What Gather reads in the place of types that it does not know."""

_FEWEST_COLUMNS = 5
"""Shorter rows are not worth a scale; the tables written here have them too."""


def quantize_table(
    edit: Editor,
    gather: Node,
    table: Constant,
    qparams: QParams | None = None,
    bits: int = 8,
    *,
    integers: np.ndarray | None = None,
) -> None:
    """Gather(T, i)  ->  Mul(Cast(Gather(T_int8, i)), Gather(scale, i)), one scale for each row.

    Only the rows that are read are ever converted; DequantizeLinear on the table itself would
    convert all of it at every run. Zero points are gathered and subtracted likewise. Gather knows
    no type below a byte: with 4 and 2 bits it reads rows of packed bytes, and a second Gather turns
    each byte into the floats it holds (a table of 256 rows). onnxruntime 1.31 does that three times
    as fast as shifting and masking, and five times as fast as GatherBlockQuantized reads int4.

    What a product of the same edit has stored, in this order or transposed, is not stored again:
    nodes that onnxruntime computes once, when the session loads, bring it in order.

    Args:
        edit: records the change.
        gather: reads rows of `table` (axis 0).
        table: float32 [rows, columns].
        qparams: per row (axis 0), in blocks of a row (axis 1) or one for all; None for symmetric
            int8 rows.
        bits: width of the integers of `qparams`.
        integers: that stand for the table, [rows, columns]; None for the nearest.
    """
    qparams = qparams or symmetric_qparams(table.values, PerChannel(0))
    writer = _Rows(edit, gather, table)
    integers = quantize(table.values, qparams) if integers is None else integers
    granularity = qparams.granularity
    row = table.shape[1:]
    numbers = (table.shape[0], *(1 for _ in row))
    if isinstance(granularity, PerBlock):
        blocks = table.shape[1] // granularity.block_size
        row, numbers = (blocks, granularity.block_size), (table.shape[0], blocks, 1)
    levels = writer.levels(integers, bits, row)
    if not is_symmetric(qparams):
        zero_points = writer.numbers("zero_point", qparams.zero_point, numbers)
        zero = writer.add("Cast", [zero_points], "zero", FLOAT, to=_FLOAT_TYPE)
        levels = writer.add("Sub", [levels, zero], "shifted", FLOAT)
    scale = writer.numbers("scale", qparams.scale, numbers)
    real = writer.add("Mul", [levels, scale], "dequantized", FLOAT)
    if row != table.shape[1:]:
        real = writer.reshaped(real, table.shape[1:])
    real.shape = gather.outputs[0].shape
    edit.redirect(gather.outputs[0], real)
    edit.remove(gather)


def why_no_table(gather: Node, table: Constant) -> str | None:
    """Why a Gather of a stored float tensor stays as it is; None if it reads rows of a matrix."""
    if table.dtype != np.float32:
        return f"its table is {not_float32(table)}"
    if len(table.shape) != 2 or gather.int_attr("axis", 0) not in (0, -2):
        return "does not read rows of a matrix"
    if table.shape[1] < _FEWEST_COLUMNS:
        return f"its rows of {table.shape[1]} values are too short for a scale each"
    return None if np.isfinite(table.values).all() else "its table holds NaN or infinite values"


def why_not_divisible(table: Constant, granularity: Granularity, bits: int) -> str | None:
    """Why rows cannot be stored with that granularity and width; None if they can."""
    columns = table.shape[1]
    if columns % per_byte(bits):
        return f"its rows of {columns} values of {bits} bits do not fill bytes"
    if isinstance(granularity, PerBlock) and columns % granularity.block_size:
        return f"its rows of {columns} values do not divide into blocks of {granularity.block_size}"
    return None


class _Rows:
    """Adds nodes in the place of one Gather."""

    def __init__(self, edit: Editor, gather: Node, table: Constant):
        self._edit = edit
        self._gather = gather
        self._table = table
        self._indices = gather.inputs[1]

    def add(
        self, op: str, inputs: list[Tensor], what: str, dtype: np.dtype, **attrs: Attribute
    ) -> Variable:
        base = f"{self._gather.outputs[0].name}_{what}"
        return self._edit.add(op, inputs, near=self._gather, base=base, attrs=attrs, dtype=dtype)

    def levels(self, integers: np.ndarray, bits: int, row: tuple[int, ...]) -> Variable:
        """The integers of the rows that are read, as float32, each row in the shape `row`."""
        stored = self._in_order(integers)
        if stored is None and bits <= 8:
            lowest, _ = integer_limits(integers.dtype)
            codes = (integers.astype(np.int16) - lowest).astype(np.uint8)
            packed = pack_last_axis(codes.reshape(len(codes), *row), bits)  # as MatMulNBits has it
            if bits < 8:
                return self.reshaped(self._unpacked(packed, integers.dtype, bits), row)
            if (stored := self._edit.known(packed)) is not None:
                levels = self._as_float(self._rows("packed", stored))
                middle = self._edit.shared("middle", np.array(-lowest, np.float32))
                return self.add("Sub", [levels, middle], "centred", FLOAT) if lowest else levels
        stored = stored or self._edit.shared(f"{self._table.name}_quantized", integers)
        levels = self._as_float(self._rows("quantized", stored))
        return levels if row == self._table.shape[1:] else self.reshaped(levels, row)

    def numbers(self, what: str, values: np.ndarray, shape: tuple[int, ...]) -> Tensor:
        """Scales or zero points of the rows that are read, or the one of all."""
        if not values.ndim:
            wide = _WIDE.get(values.dtype, values.dtype)
            return self._edit.shared(f"{self._table.name}_{what}", values.astype(wide))
        known = self._in_order(values)
        if known is None:
            wide = _WIDE.get(values.dtype, values.dtype)
            values = values.astype(wide).reshape(shape)
            return self._rows(what, self._edit.shared(f"{self._table.name}_{what}", values))
        target = self._edit.shared(f"{self._table.name}_{what}_shape", np.array(shape, np.int64))
        assert known.dtype is not None
        return self._rows(what, self.add("Reshape", [known, target], f"{what}s", known.dtype))

    def _in_order(self, values: np.ndarray) -> Tensor | None:
        """These values, one row after another, of what the edit has stored already, if it has."""
        known: Tensor | None = self._edit.known(values)
        turned = None
        if known is None and values.ndim == 2:
            known = turned = self._edit.known(np.ascontiguousarray(values.T))
        if known is None:
            return None
        if values.dtype in _WIDE:
            wide = _WIDE[values.dtype]
            known = self.add(
                "Cast", [known], "wide", wide, to=helper.np_dtype_to_tensor_dtype(wide)
            )
        if turned is not None:
            known = self.add("Transpose", [known], "in_order", known.dtype or FLOAT, perm=[1, 0])
        return known

    def _rows(self, what: str, stored: Tensor) -> Variable:
        """What the Gather reads of other values."""
        assert stored.dtype is not None
        return self.add("Gather", [stored, self._indices], what, stored.dtype)

    def _as_float(self, integers: Variable) -> Variable:
        return self.add("Cast", [integers], "unscaled", FLOAT, to=_FLOAT_TYPE)

    def _unpacked(self, packed: np.ndarray, dtype: np.dtype, bits: int) -> Variable:
        """The integers of the rows that are read, as float32 [..., bytes, integers a byte]."""
        lowest, _ = integer_limits(dtype)
        stored = self._edit.shared(f"{self._table.name}_packed", packed)
        rows = self._rows("packed", stored)
        index = self.add("Cast", [rows], "bytes", np.dtype(np.int32), to=_INT32_TYPE)
        shifts = np.arange(0, 8, bits)
        meant = (np.arange(256)[:, None] >> shifts) % (1 << bits) + lowest
        codebook = self._edit.shared(f"{dtype.name}_of_byte", meant.astype(np.float32))
        return self.add("Gather", [codebook, index], "levels", FLOAT)

    def reshaped(self, tensor: Variable, row: tuple[int, ...]) -> Variable:
        """The rows that are read, each in the shape `row`; indices may have any rank."""
        long = np.dtype(np.int64)
        outer = self.add("Shape", [self._indices], "indices", long)
        inner = self._edit.shared("row_shape", np.array(row, np.int64))
        shape = self.add("Concat", [outer, inner], "shape", long, axis=0)
        return self.add("Reshape", [tensor, shape], "rows", FLOAT)
