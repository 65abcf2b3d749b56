"""Channels, heads, neurons and units that a mask zeroed, cut out of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.channels.cut import Cut
from onnxcompress.channels.groups import find_groups
from onnxcompress.channels.silent import find_silent, fold_shifts
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.ir.sort import sort
from onnxcompress.pass_base import Context, Pass


@dataclass(frozen=True, kw_only=True)
class StripPruned(Pass):
    """Conv(Relu(Conv(x, W, b)), V)  ->  the same with fewer channels, where W, b or V are zero.

    Channels are followed through the graph in dependency groups; one can go if whatever reads it
    multiplies it by zero, or if it is a constant that a bias can take up. Outputs stay equal, up to
    float rounding. What cannot be followed is listed with its reason.
    """

    name: ClassVar[str] = "strip-pruned"
    exact: ClassVar[bool] = True
    prunes: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        groups = find_groups(model, context).followed(edit, self.at)
        silent = find_silent(model, groups)
        for group in groups.groups:
            if not silent.counts.get(group):
                edit.skip(group.nodes[0], f"none of its {len(group)} units is zero")
        while silent.counts:
            Cut(groups.space, silent.kept).apply(model, edit)
            fold_shifts(model, edit, silent)
            edit.finish()
            sort(model.graph)
            # What read the units that went may be empty now, or emit a constant.
            groups = find_groups(model, context).followed(Editor(model), self.at)
            silent = find_silent(model, groups)
