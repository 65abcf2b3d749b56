"""What a node reads where its weight was."""

from __future__ import annotations

import onnx

from onnxcompress.ir.model import Model
from tests.helpers import exported, node, outputs

from .support import Array


def restored(model: Model, name: str, index: int = 1) -> Array:
    """The tensor at an input of a node, computed from stored tensors alone by onnxruntime."""
    wanted = node(model, name).inputs[index].name
    proto = exported(model)
    writers = {output: each for each in proto.graph.node for output in each.output}
    needed: list[str] = []
    waiting = [wanted]
    while waiting:
        tensor = waiting.pop()
        if tensor in writers and tensor not in needed:
            needed.append(tensor)
            waiting.extend(writers[tensor].input)
    kept = [each for each in proto.graph.node if each.output[0] in needed]
    del proto.graph.node[:], proto.graph.input[:], proto.graph.output[:]
    proto.graph.node.extend(kept)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(wanted, 1, None))
    (value,) = outputs(proto, {}).values()
    return value


def dims(rank: int) -> str:
    """The shape of an output of that rank, as ONNX text writes it."""
    return f"[{', '.join(f'd{axis}' for axis in range(rank))}]"
