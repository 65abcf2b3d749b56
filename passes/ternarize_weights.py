"""Stores weights as -1, 0 and 1 at two bits each; computation stays float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.errors import RecipeError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Node, Variable
from onnxcompress.qdq.stored_weights import WeightStorage
from onnxcompress.qdq.unpack import OPSET, unpacked
from onnxcompress.quantization.groups import Grouping, Groups
from onnxcompress.quantization.ternary import ternarize


@dataclass(frozen=True, kw_only=True)
class TernarizeWeights(WeightStorage):
    """MatMul(x, W)  ->  MatMul(x, a * {-1, 0, 1}), four weights packed to a byte.

    For size: a sixteenth of the bytes, at the speed of the float model, since onnxruntime unpacks
    the weights once, when the session loads. (Five to a byte would fit; the nodes would be more.)
    A model that was not trained for it loses its accuracy.
    Source: Li and Liu, "Ternary Weight Networks", 2016.

    Attributes:
        granularity: what shares a threshold and a factor.
        block_size: weights in a block, for per-block.
        threshold: smaller weights become 0; in units of the mean magnitude.
    """

    name: ClassVar[str] = "ternarize-weights"
    opset: ClassVar[int] = OPSET

    granularity: Grouping = Grouping.PER_CHANNEL
    block_size: int = 64
    threshold: float = 0.7

    def __post_init__(self) -> None:
        if self.block_size < 1 or not 0 <= self.threshold < float("inf"):
            reason = "block_size must be at least 1, threshold a number from 0 up"
            raise RecipeError(f"pass {self.name!r}: {reason}")

    def restore(self, edit: Editor, weight: Constant, axis: int, near: Node) -> Variable | str:
        """See `WeightStorage.restore`."""
        groups = Groups.of(weight.shape, axis, self.granularity, self.block_size)
        coded = ternarize(weight.values, groups, self.threshold)
        if coded.nbytes >= weight.nbytes:
            return f"would take {coded.nbytes} bytes, no less than its {weight.nbytes}"
        return unpacked(edit, weight, coded, near)
