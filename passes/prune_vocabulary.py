"""Cuts rows of embedding tables that the data never read; every id stays valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.data.recipe_paths import RecipePath
from onnxcompress.errors import RecipeError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.lookups import why_not_given
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.pruning.vocabulary import RowUses, SmallTable, read_ids, shrink, unseen_share
from onnxcompress.qdq.candidates import is_no_table, why_not_finite

_INT32 = np.dtype(np.int32)
_INT32_TYPE = 6


@dataclass(frozen=True, kw_only=True)
class PruneVocabulary(Pass):
    """Gather(T, ids)  ->  Gather(T_small, Gather(map, ids)), without rows that no sample reads.

    For size: tables of token embeddings that are indexed by an integer input of the model. Inputs
    stay what they were: a row that went is read as the remaining row most like it, so the data
    should hold the words that matter; the change says what share of new ids is expected to have
    lost its row. Tables of positions, of two or three types and those that logits are made with
    too are left alone. A smaller table is no faster; the map costs next to nothing.

    Attributes:
        keep: ids whose rows stay anyhow, such as special tokens: a list, or a text file below the
            current folder with one id a line.
        least_count: rows that the calibration data read less often go.
        unknown: the id whose row is read for all that went, such as that of [UNK]; without it,
            for each the row with the largest cosine.
        min_elements: smaller tables stay as they are.
    """

    name: ClassVar[str] = "prune-vocabulary"
    seeks: ClassVar[str] = "Gather from a stored table of floats"
    prunes: ClassVar[bool] = True
    opset: ClassVar[int] = 6

    keep: RecipePath | tuple[int, ...] = ()
    least_count: int = 1
    unknown: int | None = None
    min_elements: int = 1024

    def __post_init__(self) -> None:
        if self.least_count < 1:
            raise RecipeError(f"pass {self.name!r}: least_count must be at least 1")

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        outermost = set(model.graph.nodes)
        readers: dict[Constant, list[Node]] = {}
        for gather in query.nodes(model, {"Gather"}):
            table = query.constant(gather, 0)
            if table is None or is_no_table(table):
                continue
            options = self.at(gather)
            reason = EXCLUDED if options is None else options._unfit(model, gather, table)
            if reason is None and gather not in outermost:
                reason = "it lies in a body, which may run any number of times"
            if reason is None:
                readers.setdefault(table, []).append(gather)
            else:
                edit.skip(gather, reason)
        uses = _count(model, readers, context) if readers else {}
        for table, gathers in readers.items():
            options = self.at(gathers[0])
            assert options is not None
            reason = options._cut(edit, table, gathers, uses[table])
            if reason is not None:
                for gather in gathers:
                    edit.skip(gather, reason)

    def _unfit(self, model: Model, gather: Node, table: Constant) -> str | None:
        """Why a table stays as it is, whatever the data; None if it need not."""
        if len(table.shape) != 2 or gather.int_attr("axis", 0) not in (0, -2):
            return "does not read rows of a matrix"
        if table.size < self.min_elements:
            return f"{table.size} elements < min_elements={self.min_elements}"
        if model.is_output(table):
            return "a graph returns its table as it stands"
        for reader in query.consumers(table):
            if reader.op != "Gather" or reader.inputs[1] is table:
                return f"its table is also read by {reader.op} {reader.name!r}, all rows of it"
        return why_not_finite(table) or why_not_given(model, gather)

    def _cut(
        self, edit: Editor, table: Constant, gathers: Sequence[Node], uses: RowUses
    ) -> str | None:
        """Stores the rows that stay; or says why none goes."""
        if set(query.consumers(table)) != set(gathers):
            return "its table is also read by a Gather that is left alone"
        if uses.are_positions:
            return "its ids count up, as positions do: longer inputs would need the other rows"
        kept = uses.counts >= self.least_count
        kept[self._kept_ids(table)] = True
        if not kept.any():
            return f"none of its rows is read {self.least_count} times"
        small = shrink(table.values, kept, self.unknown)
        stored = small.nbytes(table.nbytes // table.shape[0])
        if stored >= table.nbytes:
            return (
                f"{len(small.rows)} of {table.shape[0]} rows are read: with a map of ids that is "
                f"{stored} bytes, no less than its {table.nbytes}"
            )
        lost = unseen_share(uses.counts, kept, self.least_count)
        detail = (
            f"{table.shape[0]} rows -> {len(small.rows)}; "
            f"{lost:.1%} of new ids are expected to have lost theirs"
        )
        _rewrite(edit, table, gathers, small, detail)
        return None

    def _kept_ids(self, table: Constant) -> np.ndarray:
        ids = read_ids(self.keep) if isinstance(self.keep, str) else list(self.keep)
        ids += [] if self.unknown is None else [self.unknown]
        outside = [each for each in ids if not 0 <= each < table.shape[0]]
        if outside:
            raise RecipeError(
                f"pass {self.name!r}: id {outside[0]} is none of the {table.shape[0]} rows of "
                f"{table.name!r}"
            )
        return np.array(ids, np.int64)


def _count(
    model: Model, readers: Mapping[Constant, Sequence[Node]], context: Context
) -> Mapping[Constant, RowUses]:
    """How often the calibration data read each row of each table."""
    uses = {table: RowUses(table.shape[0]) for table in readers}
    names = {
        table: list(dict.fromkeys(gather.inputs[1].name for gather in gathers))
        for table, gathers in readers.items()
    }
    wanted = list(dict.fromkeys(name for each in names.values() for name in each))
    for values in context.activations(model, wanted):
        for table, used in uses.items():
            for name in names[table]:
                used.add(values[name])
    return uses


def _rewrite(
    edit: Editor, table: Constant, gathers: Sequence[Node], small: SmallTable, detail: str
) -> None:
    rows = edit.constant(table.name, table.values[small.rows])
    places: Tensor = edit.constant(f"{table.name}_map", small.places)
    if small.places.dtype != _INT32:  # onnxruntime computes this once, when it loads the model
        places = edit.add(
            "Cast",
            [places],
            near=gathers[0],
            base=f"{table.name}_places",
            attrs={"to": _INT32_TYPE},
            dtype=_INT32,
            shape=[table.shape[0]],
        )
    for gather in gathers:
        ids = gather.inputs[1]
        found = edit.add(
            "Gather",
            [places, ids],
            near=gather,
            base=f"{ids.name}_mapped",
            dtype=_INT32,
            shape=ids.shape,
        )
        edit.set_input(gather, 0, rows, detail)
        edit.set_input(gather, 1, found)
