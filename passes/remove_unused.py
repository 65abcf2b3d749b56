"""Removes what no output depends on."""

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.clean import remove_unused
from onnxcompress.ir.edit import Action, Change, Editor
from onnxcompress.ir.model import Model
from onnxcompress.ir.traces import drop_traces
from onnxcompress.pass_base import Context, Pass


@dataclass(frozen=True, kw_only=True)
class RemoveUnused(Pass):
    """Nodes and initializers that no output depends on  ->  nothing.

    The pass manager does the same after every pass that changed something; this pass is for models
    that come in with such parts. Stack traces and other entries for debugging that exporters leave
    in metadata and doc strings, with paths of the machine they ran on, go as well.

    Attributes:
        keep_traces: leave these in the file.
    """

    name: ClassVar[str] = "remove-unused"
    exact: ClassVar[bool] = True

    keep_traces: bool = False

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        remove_unused(model, edit)
        removed = 0 if self.keep_traces else drop_traces(model)
        if removed:
            detail = f"dropped {removed} stack traces and debugging entries of the exporter"
            edit.changes.append(Change(Action.CHANGED, model.graph.name, "graph", detail))
