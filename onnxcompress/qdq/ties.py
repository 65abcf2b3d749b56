"""Tables that rows are looked up in and that products multiply by, transposed: stored once.

Language models look tokens up in the table that they make logits with. Exporters store it once,
with a Transpose before the product, or twice, the second time transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.ir.ops import output_channel_axis
from onnxcompress.qdq.insert import FLOAT
from onnxcompress.qdq.table import quantize_table, why_no_table, why_not_divisible
from onnxcompress.quantization.granularity import PerTensor
from onnxcompress.quantization.qparams import QParams, quantize, width


@dataclass(frozen=True)
class _Stored:
    """What a product stores of a table.

    Attributes:
        restored: its weight, where that is unpacked when the session loads; else None.
        integers: [rows, columns] of the table.
        qparams: of these.
    """

    restored: Tensor | None
    integers: np.ndarray
    qparams: QParams


class Ties:
    """The tables of a model that products multiply by, for as long as one pass runs.

    Args:
        model: its weights count as they stand; see `Lifted` for those behind a Transpose.
    """

    def __init__(self, model: Model):
        products = query.nodes(model, {"MatMul", "Gemm"})
        self._gathers = query.nodes(model, {"Gather"})
        self._tables: dict[Node, Constant] = {}
        """By product, the first of its table."""
        self._by_row: dict[Node, bool] = {}
        self._stored: dict[Constant, _Stored] = {}
        for table in dict.fromkeys(query.constant(gather, 0) for gather in self._gathers):
            if table is None or len(table.shape) != 2:
                continue
            product = next((each for each in products if multiplies(each, table)), None)
            if product is not None:
                self._tables[product] = table
                self._by_row[product] = output_channel_axis(product, 2) == 0

    def note(
        self,
        edit: Editor,
        product: Node,
        values: np.ndarray,
        qparams: QParams,
        *,
        at_load: bool = False,
    ) -> None:
        """Remembers what a product has stored of its weight, if that is a table.

        Args:
            edit: adds what brings floats in order.
            product: any node.
            values: of its weight; integers if they are quantized already.
            qparams: how they are stored.
            at_load: whether the product reads floats that are unpacked when the session loads.
        """
        table = self._tables.get(product)
        if table is None:
            return
        integers = values if values.dtype == qparams.zero_point.dtype else quantize(values, qparams)
        if not self._by_row[product]:
            integers = np.ascontiguousarray(integers.T)
            if not isinstance(qparams.granularity, PerTensor):
                qparams = qparams.transposed()
        restored = self._in_rows(edit, product) if at_load else None
        self._stored[table] = _Stored(restored, integers, qparams)

    def product(self, table: Constant) -> Node | None:
        """The product that multiplies by a table, if there is one."""
        return next((product for product, each in self._tables.items() if each is table), None)

    def read_stored(self, edit: Editor, gather: Node, table: Constant) -> bool:
        """Lets a lookup read what a product has stored, if one has; returns whether it has."""
        stored = self._stored.get(table)
        if stored is None:
            return False
        if stored.restored is not None:
            edit.set_input(gather, 0, stored.restored, "reads what a product stores")
            return True
        bits = width(stored.qparams.zero_point.dtype)
        quantize_table(edit, gather, table, stored.qparams, bits, integers=stored.integers)
        return True

    def read_all_stored(
        self,
        edit: Editor,
        excluded: Callable[[Node], str | None],
        refuse: Callable[[Node, str], None],
    ) -> None:
        """The same for every lookup of such a table, for passes that store no others.

        Args:
            edit: records the changes.
            excluded: why the caller wants a lookup left alone, or None.
            refuse: told of each lookup that stays float, with the reason.
        """
        for gather in self._gathers:
            table = query.constant(gather, 0)
            if table is None or table not in self._stored:
                continue
            qparams = self._stored[table].qparams
            bits = width(qparams.zero_point.dtype)
            reason = excluded(gather) or why_no_table(gather, table)
            reason = reason or why_not_divisible(table, qparams.granularity, bits)
            if reason is None:
                self.read_stored(edit, gather, table)
            else:
                refuse(gather, reason)

    def _in_rows(self, edit: Editor, product: Node) -> Tensor:
        rows = product.inputs[1]
        if self._by_row[product]:
            return rows
        base, order = f"{rows.name}_in_order", {"perm": [1, 0]}
        return edit.add("Transpose", [rows], near=product, base=base, attrs=order, dtype=FLOAT)


def multiplies(product: Node, table: Constant) -> bool:
    """Whether a product's stored weight holds an output channel for each row of a table."""
    weight = query.constant(product, 1)
    if weight is None or weight.dtype != table.dtype or len(weight.shape) != 2:
        return False
    if output_channel_axis(product, 2) == 1:
        return weight.shape == table.shape[::-1] and np.array_equal(weight.values, table.values.T)
    return weight is table or (
        weight.shape == table.shape and np.array_equal(weight.values, table.values)
    )


def tables_last(nodes: Iterable[Node]) -> list[Node]:
    """Nodes in their order, but lookups behind the products that they may share a table with."""
    return sorted(nodes, key=lambda node: node.op == "Gather")
