"""Stores weights as indices into a codebook; computation stays float."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from onnxcompress.errors import RecipeError
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Node, Variable
from onnxcompress.qdq.stored_weights import WeightStorage
from onnxcompress.qdq.unpack import OPSET, unpacked
from onnxcompress.quantization.palette import codebook_groups, palettize


class CodebookGranularity(Enum):
    """What shares a codebook, by the names recipes use."""

    PER_TENSOR = "per-tensor"
    PER_CHANNEL = "per-channel"


@dataclass(frozen=True, kw_only=True)
class PalettizeWeights(WeightStorage):
    """MatMul(x, W)  ->  MatMul(x, codebook[index]), the indices packed at 2, 4 or 8 bits.

    For size: an eighth of the bytes with 16 entries, at the speed of the float model, since
    onnxruntime unpacks the weights once, when the session loads. The entries are found by k-means,
    so they lie where the weights lie, outliers included. A codebook for each output channel is
    closer still, but takes 4 bytes an entry: it pays where channels have thousands of weights.
    Source: Han, Mao and Dally, "Deep Compression", ICLR 2016.

    Attributes:
        entries: values in a codebook, 4 to 256; up to 4 take two bits a weight, up to 16 four.
        granularity: one codebook for the weight, or one for each output channel.
        seed: of the random starts of k-means.
    """

    name: ClassVar[str] = "palettize-weights"
    opset: ClassVar[int] = OPSET

    entries: int = 16
    granularity: CodebookGranularity = CodebookGranularity.PER_TENSOR
    seed: int = 0

    def __post_init__(self) -> None:
        if not 4 <= self.entries <= 256:
            raise RecipeError(f"pass {self.name!r}: entries must be from 4 to 256")
        if self.seed < 0:
            raise RecipeError(f"pass {self.name!r}: seed must be at least 0")

    def restore(self, edit: Editor, weight: Constant, axis: int, near: Node) -> Variable | str:
        """See `WeightStorage.restore`."""
        per_channel = self.granularity is CodebookGranularity.PER_CHANNEL
        groups = codebook_groups(weight.shape, axis, per_channel=per_channel)
        coded = palettize(weight.values, groups, self.entries, self.seed)
        if coded.nbytes >= weight.nbytes:
            return f"would take {coded.nbytes} bytes, no less than its {weight.nbytes}"
        return unpacked(edit, weight, coded, near)
