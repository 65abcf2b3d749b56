"""How a weight that is stored as integers is written, and which way is the fastest.

onnxruntime 1.31 turns a DequantizeLinear before MatMul or Gemm into MatMulNBits, which rounds
activations to 8 bits and sums integers. That reads fewer bytes, which pays where few rows share
them, and costs more than it saves where rows are many: with 4 bits the same operator in float is
faster there. Speed-ups over the float product [rows, 384] x [384, 384], by
``python -m benchmarks.product_forms`` on x86-64 with AVX512-VNNI, one thread:

=========================  =====  =====  =====  =====  =====  =====  =====
form                       1 row      2      4     16    128    256   1024
=========================  =====  =====  =====  =====  =====  =====  =====
8 bits, DequantizeLinear    1.46   1.29   1.09   0.94   1.00   1.03   0.78
4 bits, DequantizeLinear    1.46   1.27   1.03   0.90   0.85   0.91   0.70
4 bits, MatMulNBits         0.87   0.39   0.41   0.64   0.91   1.01   0.99
2 bits, DequantizeLinear    1.23   0.97   0.71   0.55   0.48   0.50   0.42
4 bits, at load             0.99   1.00   1.02   0.99   0.97   1.03   0.93
=========================  =====  =====  =====  =====  =====  =====  =====

Larger weights gain more: with 1536 features 4 bits are 2.7 times as fast for one row, 1.06 times at
256. With 128 features DequantizeLinear is behind from 4 rows on (0.65 at 1024). What onnxruntime
does not fuse it converts at every run: weights that two products share, Gemm with transB or alpha
or before Relu, Conv; that is 0.1 to 0.7 times as fast, and at load costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis
from onnxcompress.ir.views import sources
from onnxcompress.pass_base import Context
from onnxcompress.qdq.nbits import WHOLE_2_BIT_COLUMNS, why_no_nbits
from onnxcompress.quantization.granularity import Granularity, PerBlock
from onnxcompress.releases import Release, knows_nbits


class WeightForm(Enum):
    """How a stored weight is written, by the names recipes use."""

    DEQUANTIZE_LINEAR = "dequantize-linear"
    MATMUL_NBITS = "matmul-nbits"
    AT_LOAD = "at-load"
    AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class WeightUse:
    """What decides which form of a weight is the fastest.

    Attributes:
        rows: that a product multiplies with its weight in one run; None if that is not known.
        shared: whether other nodes multiply by the same stored tensor.
    """

    rows: int | None = None
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class Writing:
    """A form, and how it computes.

    Attributes:
        form: not AUTO.
        rounds_activations: whether a MatMulNBits may round what it reads to 8 bits.
    """

    form: WeightForm
    rounds_activations: bool = False


_EXACT_ROWS = 128
"""From here on MatMulNBits in float beats sums of integers, unless features are many."""

_SMALL_ROWS = 4
_SMALL_FEATURES = 256
"""Fewer features than this, with that many rows or more, are faster as float."""

_JOINED_WITH_GEMM = frozenset(
    {"Elu", "HardSigmoid", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh"}
)
"""Activations that onnxruntime joins with a Gemm first; then it does not fuse the weight."""

_FEW_2_BIT_ROWS = 2
"""Up to here the 2-bit kernel is no slower than the float product."""


def uses_of_weights(model: Model, context: Context) -> Mapping[Node, WeightUse]:
    """How each Conv, ConvTranspose, Gemm and MatMul of a model uses its stored weight.

    Rows are those of one sample. A model with an input that is empty there continues from a past,
    as a decoder does with its cache: it is going to be fed row by row, whatever the samples hold.
    """
    types = context.types(model)
    shapes = {name: found.shape for name, found in types.items()}
    grows = any(0 in shapes.get(tensor.name, ()) for tensor in model.graph.inputs)
    uses: dict[Node, WeightUse] = {}
    for node in query.nodes(model, WEIGHTED_OPS):
        stored = sources(node.inputs[1]) if len(node.inputs) > 1 else None
        shape = shapes.get(node.inputs[0].name)
        uses[node] = WeightUse(
            rows=1 if grows else math.prod(shape[:-1]) if shape else None,
            shared=stored is not None and any(_readers(each) > 1 for each in stored),
        )
    return uses


def rows_of_largest_product(model: Model, context: Context) -> int | None:
    """The rows that the MatMul or Gemm with the largest stored weight sees, as far as is known."""
    uses = uses_of_weights(model, context)
    sizes = {
        node: sum(weight.size for weight in stored)
        for node in uses
        if node.op in ("MatMul", "Gemm") and (stored := sources(node.inputs[1])) is not None
    }
    return uses[max(sizes, key=sizes.__getitem__)].rows if sizes else None


def _readers(weight: Constant) -> int:
    """Nodes that multiply by a weight."""
    nodes = query.consumers(weight)
    return sum(node.op in WEIGHTED_OPS and query.constant(node, 1) is weight for node in nodes)


_FUSED_SINCE = Release(1, 25)
"""The release from which on onnxruntime turns all that is said above into MatMulNBits."""


def fastest_writing(
    node: Node,
    weight: Constant,
    granularity: Granularity,
    bits: int,
    use: WeightUse,
    release: Release | None = None,
) -> Writing:
    """The form in which onnxruntime computes a node the fastest, as measured; see above.

    Args:
        node: Conv, ConvTranspose, Gemm or MatMul.
        weight: what it multiplies by.
        granularity: what shares a scale.
        bits: width of the stored integers.
        use: how the node uses the weight.
        release: the oldest onnxruntime that is to load it; one that fuses nothing is given a
            MatMulNBits where it knows it, and floats where it does not.
    """
    if not _is_fused(node, weight, bits):
        return Writing(form=WeightForm.AT_LOAD)
    rows, features = use.rows or 1, weight.size // weight.shape[output_channel_axis(node, 2)]
    if features < _SMALL_FEATURES and rows >= _SMALL_ROWS:
        return Writing(form=WeightForm.AT_LOAD)
    takes_nbits = (
        node.op == "MatMul"
        and isinstance(granularity, PerBlock)
        and why_no_nbits(weight, bits, granularity.block_size) is None
        and (release is None or knows_nbits(release, bits))
    )
    fuses = release is None or release >= _FUSED_SINCE
    many = rows >= max(_EXACT_ROWS, features // 2)
    if takes_nbits and (use.shared or not fuses or (many and bits == 4)):
        return Writing(form=WeightForm.MATMUL_NBITS, rounds_activations=not many)
    if use.shared or not fuses or (bits == 2 and rows > _FEW_2_BIT_ROWS):
        return Writing(form=WeightForm.AT_LOAD)
    return Writing(form=WeightForm.DEQUANTIZE_LINEAR)


def _is_fused(node: Node, weight: Constant, bits: int) -> bool:
    """Whether onnxruntime joins a DequantizeLinear with the node, rightly, if it alone reads it."""
    if node.op not in ("MatMul", "Gemm") or len(weight.shape) != 2 or bits > 8:
        return False
    factors = (node.float_attr("alpha", 1.0), node.float_attr("beta", 1.0))
    if factors != (1.0, 1.0) or node.int_attr("transA", 0):
        return False
    readers = query.consumers(node.outputs[0])
    if node.op == "Gemm" and len(readers) == 1 and readers[0].op in _JOINED_WITH_GEMM:
        return False
    columns = weight.shape[output_channel_axis(node, 2)]
    return bits != 2 or columns % WHOLE_2_BIT_COLUMNS == 0
