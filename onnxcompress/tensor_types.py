"""What is known of a model's tensors before a pass edits it."""

from __future__ import annotations

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import Model, Tensor
from onnxcompress.pass_base import Context


class TensorTypes:
    """Element types and ranks: what running a sample showed, else what the file says.

    None is unknown: bodies are not run on their own, and not every model can be run.

    Args:
        model: as it stands; later edits do not change the answers.
        context: runs the sample.
    """

    def __init__(self, model: Model, context: Context):
        seen = context.types(model)
        graph = model.graph
        tensors = [*graph.inputs, *(output for node in graph.nodes for output in node.outputs)]
        self._seen = {tensor: seen[tensor.name] for tensor in tensors if tensor.name in seen}

    def dtype(self, tensor: Tensor) -> np.dtype | None:
        """The element type, or None."""
        return self._seen[tensor].dtype if tensor in self._seen else tensor.dtype

    def rank(self, tensor: Tensor) -> int | None:
        """How many axes there are, or None."""
        return len(self._seen[tensor].shape) if tensor in self._seen else query.rank(tensor)
