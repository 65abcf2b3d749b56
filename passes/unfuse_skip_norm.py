"""Keeps onnxruntime from a fusion that is slower than its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model
from onnxcompress.pass_base import EXCLUDED, Context, Pass


@dataclass(frozen=True, kw_only=True)
class UnfuseSkipNorm(Pass):
    """LayerNormalization(Add(x, y))  ->  LayerNormalization(Sum(x, y)).

    On inputs of fixed shape onnxruntime fuses the pair to SkipLayerNormalization, whose CPU kernel
    took 5 times as long as the two apart (1.31, MiniLM: 0.72x on the int8 model as a whole). Sum of
    two tensors computes the same and is not fused.
    """

    name: ClassVar[str] = "unfuse-skip-norm"
    exact: ClassVar[bool] = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        for norm in query.nodes(model, {"LayerNormalization"}):
            add = query.producer_of(norm.inputs[0], "Add")
            if add is None or any(isinstance(tensor, Constant) for tensor in add.inputs):
                continue  # a bias is no residual: nothing would be fused
            if self.at(norm) is None:
                edit.skip(norm, EXCLUDED)
                continue
            total = edit.add(
                "Sum",
                add.inputs,
                near=add,
                base=f"{add.outputs[0].name}_sum",
                dtype=add.outputs[0].dtype,
                shape=add.outputs[0].shape,
            )
            edit.redirect(add.outputs[0], total)
            edit.remove(add)
