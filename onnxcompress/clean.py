"""What the pass manager does after every pass: drop what nothing reads."""

from __future__ import annotations

from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Model, Node


def remove_unused(model: Model, edit: Editor) -> None:
    """Removes nodes whose outputs nothing reads, then initializers nothing reads.

    A node is kept if any graph returns one of its outputs. No ONNX operator has side effects.
    """
    returned = {tensor for graph in model.graphs() for tensor in graph.outputs}
    waiting = [node for _, node in model.nodes()]
    removed: set[Node] = set()
    while waiting:
        node = waiting.pop()
        read = any(output.outputs or output in returned for output in node.outputs)
        if read or node in removed:
            continue
        gone = [node, *node.inner_nodes()]
        removed.update(gone)
        waiting.extend(p for one in gone for tensor in one.inputs for p in tensor.inputs)
        edit.remove(node)
    edit.finish()
    for graph in model.graphs():
        for constant in list(graph.initializers):
            if not constant.outputs and constant not in returned:
                edit.remove_initializer(graph, constant)
