"""Residual blocks left out, the least important ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from onnxcompress.errors import PassError, RecipeError
from onnxcompress.ir.edit import Action, Change, Editor, Skip
from onnxcompress.ir.model import Model
from onnxcompress.ir.names import is_meant
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.students.block_importance import BlockCriterion, block_importances, bypass
from onnxcompress.students.blocks import Block, find_blocks, whole_blocks
from onnxcompress.students.record import record, recorded

DROPPED = "onnxcompress.dropped_blocks"
"""The metadata that names the blocks that a model once had."""


@dataclass(frozen=True, kw_only=True)
class DropBlock(Pass):
    """y = x + f(x)  ->  y = x, for the blocks f that matter least.

    A block is a sum of which one operand is made from the other by way of weights. Where
    normalizations close blocks, y = LayerNorm(x + f(x)), they go too; where x is not normalized
    likewise, they stay. The metadata names the blocks that went, so that an amount is one of the
    original.

    Attributes:
        blocks: names of the blocks to drop (of their sums, see the report), or shell-style
            patterns; whatever `count` and `amount` say. No data are needed then.
        count: blocks to drop; None goes by `amount`.
        amount: share of the blocks to drop, rounded.
        criterion: what importance is judged by, on the calibration data.
        whole: an attention goes together with the network behind it, as one block.
    """

    name: ClassVar[str] = "drop-block"
    prunes: ClassVar[bool] = True

    blocks: str | tuple[str, ...] = ()
    count: int | None = None
    amount: float = 0.25
    criterion: BlockCriterion = BlockCriterion.COSINE
    whole: bool = True

    def __post_init__(self) -> None:
        """Refuses options out of their range."""
        if self.count is not None and self.count < 1:
            raise RecipeError(f"pass {self.name!r}: count must be at least 1, not {self.count}")
        if not 0 < self.amount < 1:
            raise RecipeError(
                f"pass {self.name!r}: amount must be between 0 and 1, not {self.amount}"
            )

    def scaled(self, share: float) -> Self | None:
        """See `Pass.scaled`; blocks that are named go all at once."""
        if self.blocks:
            return None
        count = None if self.count is None else max(round(self.count * share), 1)
        return replace(self, count=count, amount=self.amount * share)

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        found = find_blocks(model, context.types(model))
        found = whole_blocks(found) if self.whole else found
        gone = recorded(model, DROPPED)
        allowed = []
        for block in found:
            if any(self.at(node) is None for node in block.sums):
                edit.skip(block.sums[-1], EXCLUDED)
            else:
                allowed.append(block)
        if not found:
            edit.skips.append(Skip(model.graph.name, "graph", _NO_BLOCKS))
        elif self.blocks:
            self._drop(model, edit, self._named(edit, allowed, gone), allowed, {})
        else:
            wanted = self._wanted(len(found) + len(gone)) - len(gone)
            if wanted > len(allowed):
                raise PassError(
                    f"{wanted} blocks are to go, but there are {len(allowed)} that may: "
                    f"{', '.join(block.name for block in allowed) or 'none'}"
                )
            if wanted < 1:
                reason = f"stays: {len(gone)} of {len(found) + len(gone)} blocks are gone already"
                for block in allowed:
                    edit.skip(block.sums[-1], reason)
                return
            importances = block_importances(self.criterion, model, allowed, context)
            least = sorted(allowed, key=lambda block: importances[block])[:wanted]
            self._drop(model, edit, least, allowed, importances)

    def _wanted(self, total: int) -> int:
        return round(self.amount * total) if self.count is None else self.count

    def _named(self, edit: Editor, blocks: Sequence[Block], gone: Sequence[str]) -> list[Block]:
        """The blocks that `blocks` names."""
        patterns = (self.blocks,) if isinstance(self.blocks, str) else self.blocks
        for pattern in patterns:
            names = [block.name for block in blocks]
            if any(is_meant(name, pattern) for name in names):
                continue
            before = any(is_meant(name, pattern) for name in gone)
            reason = "was dropped before" if before else f"names no block of {', '.join(names)}"
            edit.skips.append(Skip(pattern, "blocks", reason))
        return [b for b in blocks if any(is_meant(b.name, pattern) for pattern in patterns)]

    def _drop(
        self,
        model: Model,
        edit: Editor,
        chosen: Sequence[Block],
        blocks: Sequence[Block],
        importances: Mapping[Block, float],
    ) -> None:
        """Takes the chosen blocks out and says of each one how much it matters."""
        dropped = [block for block in blocks if block in set(chosen)]
        for block in blocks:
            matters = ""
            if block in importances:
                matters = f", importance {importances[block]:.3g} by {self.criterion.value}"
            ends = f"{block.start.name} to {block.end.name}"
            if block in dropped:
                change = Change(Action.REMOVED, block.name, "block", f"from {ends}{matters}")
                edit.changes.append(change)
            else:
                edit.skip(block.sums[-1], f"stays: block from {ends}{matters}")
        bypass(edit, dropped)
        if dropped:
            record(model, DROPPED, [block.name for block in dropped])


_NO_BLOCKS = "no sum adds to a tensor what weights made of it, in shapes that are known"
