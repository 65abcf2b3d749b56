"""Stores weights at one bit for each sign; computation stays float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxcompress.errors import RecipeError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Node, Variable
from onnxcompress.qdq.stored_weights import WeightStorage
from onnxcompress.qdq.unpack import OPSET, unpacked
from onnxcompress.quantization.binary import binarize
from onnxcompress.quantization.groups import Grouping, Groups


@dataclass(frozen=True, kw_only=True)
class BinarizeWeights(WeightStorage):
    """MatMul(x, W)  ->  MatMul(x, a * sign), the signs packed eight to a byte.

    For size: a thirty-second of the bytes for each base, at the speed of the float model, since
    onnxruntime unpacks the weights once, when the session loads. A model that was not trained for
    it loses its accuracy; more bases, or training afterwards, bring it back. All of a table that
    Gather reads is unpacked too: its file is small, its memory is not.
    Source: Rastegari et al., "XNOR-Net", ECCV 2016; Lin et al., "ABC-Net", NeurIPS 2017.

    Attributes:
        bases: how many signs a weight is the sum of, each on what those before left over.
        granularity: what shares the factor of a sign.
        block_size: weights in a block, for per-block.
    """

    name: ClassVar[str] = "binarize-weights"
    opset: ClassVar[int] = OPSET

    bases: int = 1
    granularity: Grouping = Grouping.PER_CHANNEL
    block_size: int = 64

    def __post_init__(self) -> None:
        if self.bases < 1 or self.block_size < 1:
            raise RecipeError(f"pass {self.name!r}: bases and block_size must be at least 1")

    def restore(self, edit: Editor, weight: Constant, axis: int, near: Node) -> Variable | str:
        """See `WeightStorage.restore`."""
        groups = Groups.of(weight.shape, axis, self.granularity, self.block_size)
        coded = binarize(weight.values, groups, self.bases)
        if coded.nbytes >= weight.nbytes:
            return f"would take {coded.nbytes} bytes, no less than its {weight.nbytes}"
        return unpacked(edit, weight, coded, near)
