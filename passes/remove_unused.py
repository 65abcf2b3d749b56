"""Removes what no output depends on."""

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.clean import remove_unused
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model
from onnxcompress.pass_base import Context, Pass


@dataclass(frozen=True, kw_only=True)
class RemoveUnused(Pass):
    """Nodes and initializers that no output depends on  ->  nothing.

    The pass manager does the same after every pass that changed something; this pass is for models
    that come in with such parts.
    """

    name: ClassVar[str] = "remove-unused"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        remove_unused(model, edit)
