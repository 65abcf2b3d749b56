"""What passes have in common that store weights in another form and compute in float32."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Variable
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.candidates import (
    RECURRENT,
    RECURRENT_OPS,
    is_no_table,
    why_not_finite,
    why_not_float32,
)

_WEIGHT_INDEX = {
    **{op: spec.weight for op, spec in WEIGHTED_OPS.items()},
    **dict.fromkeys(RECURRENT_OPS, 1),
    "Gather": 0,
}


@dataclass(frozen=True, kw_only=True)
class WeightStorage(Pass):
    """Base of a pass that stores each weight small, with nodes that give it back as float32.

    Candidates are the weights of Conv, ConvTranspose, Gemm and MatMul and the tables of Gather. All
    readers of a weight read the one copy that is given back, so it is stored, and held in memory,
    once; where an override excludes one of them, all keep the float weight.

    Attributes:
        min_elements: smaller weights stay as they are; they are not worth the nodes.
    """

    packs: ClassVar[bool] = True
    packs_once: ClassVar[bool] = True

    min_elements: int = 1024

    @abstractmethod
    def restore(self, edit: Editor, weight: Constant, axis: int, near: Node) -> Variable | str:
        """Stores one weight and adds what gives it back.

        Args:
            edit: records the change.
            weight: finite float32.
            axis: along which output channels, or the rows of a table, lie.
            near: where nodes go; in the main graph, so that bodies can read them too.

        Returns:
            The restored float32 tensor; or why the weight stays as it is, with nothing changed.
        """

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        outermost = query.outermost(model)
        done = _without_activations(model)
        for node in query.nodes(model, _WEIGHT_INDEX):
            weight = query.constant(node, _WEIGHT_INDEX[node.op])
            if node in done or (node.op == "Gather" and is_no_table(weight)):
                continue
            options = self.at(node)
            reason = EXCLUDED if options is None else options._unfit(model, node, weight)
            if reason is None:
                assert options is not None and weight is not None
                axis = _channel_axis(node, weight)
                restored = options.restore(edit, weight, axis, outermost[node])
                if isinstance(restored, Variable):
                    done.update(self._read(edit, weight, restored, options))
                    continue
                reason = restored
            edit.skip(node, reason)

    def _unfit(self, model: Model, node: Node, weight: Constant | None) -> str | None:
        """Why a candidate stays as it is; None if it need not."""
        if node.op in RECURRENT_OPS:
            return RECURRENT
        if weight is None:
            return "its weight is not stored as float32 in the model"
        reason = why_not_float32(weight, self.min_elements)
        if reason is None and node.op == "Gather" and weight.shape[-1:] == (1,):
            return "its rows hold one number each: scales of a table"
        if reason is None and model.is_output(weight):
            reason = "a graph returns its weight as it stands"
        return why_not_finite(weight) if reason is None else reason

    def _read(
        self, edit: Editor, weight: Constant, restored: Variable, options: WeightStorage
    ) -> set[Node]:
        """Lets readers read the restored weight, and returns them.

        Not those that are excluded, nor other candidates whose options differ.
        """
        readers: set[Node] = set()
        for reader in query.consumers(weight):
            wanted = self.at(reader)
            candidate = query.constant(reader, _WEIGHT_INDEX.get(reader.op, -1)) is weight
            if wanted is None or (candidate and wanted != options):
                continue
            for index, tensor in enumerate(list(reader.inputs)):
                if tensor is weight:
                    edit.set_input(reader, index, restored, f"{weight.name} stored small")
            readers.add(reader)
        return readers


def _without_activations(model: Model) -> set[Node]:
    """Nodes that read stored tensors alone, or what such nodes give: unpacking, for one."""
    settled: set[Node] = set()
    for node in query.nodes(model):
        given = [tensor for tensor in node.inputs if not query.is_omitted(tensor)]
        computed = [tensor for tensor in given if not isinstance(tensor, Constant)]
        if given and all(query.producer(tensor) in settled for tensor in computed):
            settled.add(node)
    return settled


def _channel_axis(node: Node, weight: Constant) -> int:
    rank = len(weight.shape)
    if node.op == "Gather":
        return node.int_attr("axis", 0) % rank
    return output_channel_axis(node, rank)
