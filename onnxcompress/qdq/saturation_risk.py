"""Where the integer kernels of x86 without VNNI can saturate, read off a finished model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor
from onnxcompress.qdq.recurrent import RECURRENT_WEIGHTS
from onnxcompress.qdq.unpack import bitmap_of
from onnxcompress.qdq.weight_grid import in_kernel_order, multiplies_in_pairs
from onnxcompress.quantization.saturation import PAIR_LIMIT, pair_sums

_FLOAT_FORM = frozenset({"Conv", "Gemm", "MatMul"})
"""Read integers through DequantizeLinear, which onnxruntime fuses with them."""

_INTEGER_FORM = {"ConvInteger": 1, "MatMulInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}
"""Read integers as they are; by the index of the weight."""


_LSTM = ("com.microsoft", "DynamicQuantizeLSTM")


@dataclass(frozen=True, kw_only=True)
class SaturationRisk:
    """A node that may compute something else on x86 without VNNI than elsewhere.

    Attributes:
        node: its name.
        op: its operator.
        channels: output channels.
        channels_at_risk: those where two neighbouring products can exceed an int16, if the
            activations are as large as their type allows.
        worst: the largest such sum, in units of what an int16 holds.
    """

    node: str
    op: str
    channels: int
    channels_at_risk: int
    worst: float


def integer_products(model: Model) -> list[tuple[Node, np.ndarray]]:
    """Nodes that multiply uint8 activations by stored int8 weights, with these.

    The weights of an LSTM, input and recurrence in all directions, are one matrix: [inputs, rows].
    """
    found = []
    for node in query.nodes(model):
        if (node.domain, node.op) == _LSTM:
            weights = [query.constant(node, index) for index in RECURRENT_WEIGHTS]
            found += [(node, _joined([w.values for w in weights if w is not None]))]
        if node.domain not in STANDARD or node.op not in {*_FLOAT_FORM, *_INTEGER_FORM}:
            continue
        activations, weight = _operands(node)
        if weight is None or weight.dtype != np.int8 or not _is_uint8(activations):
            continue
        if node.op.endswith("Conv") or weight.ndim == 2:
            found.append((node, weight))
    return found


def saturation_risks(model: Model) -> list[SaturationRisk]:
    """The nodes at risk, in the order of the graph. Source: see `quantization.saturation`."""
    risks = []
    for node, weight in integer_products(model):
        if not multiplies_in_pairs(node, weight.shape):
            continue
        sums = pair_sums(in_kernel_order(node, weight)).max(axis=1, initial=0.0)
        at_risk = int((sums > PAIR_LIMIT).sum())
        if at_risk:
            risks.append(
                SaturationRisk(
                    node=node.name,
                    op=node.op,
                    channels=len(sums),
                    channels_at_risk=at_risk,
                    worst=float(255 * sums.max() / 32767),
                )
            )
    return risks


def _operands(node: Node) -> tuple[Tensor | None, np.ndarray | None]:
    """The integers a node multiplies: of its activations, and of its weight if that is stored."""
    if node.op in _INTEGER_FORM:
        return node.inputs[0], _stored(node.inputs[_INTEGER_FORM[node.op]])
    sources = [query.producer(tensor) for tensor in node.inputs[:2]]
    if any(each is None or each.op != "DequantizeLinear" for each in sources):
        return None, None
    first, second = (each for each in sources if each is not None)
    # The type of an activation is that of its zero point, whatever the file says of the tensor.
    typed = first.inputs[2] if query.has_input(first, 2) else first.inputs[0]
    return typed, _stored(second.inputs[0])


def _stored(tensor: Tensor) -> np.ndarray | None:
    """Integers that are stored, with their zeros or without them."""
    if isinstance(tensor, Constant):
        return tensor.values
    bitmap = bitmap_of(tensor)
    return None if bitmap is None else bitmap.load()


def _joined(weights: list[np.ndarray]) -> np.ndarray:
    """Stacks of matrices side by side, made equally high by zeros, which change no sum."""
    matrices = [matrix for stack in weights for matrix in stack]
    height = max((len(matrix) for matrix in matrices), default=0)
    padded = [np.pad(matrix, ((0, height - len(matrix)), (0, 0))) for matrix in matrices]
    return np.concatenate(padded, axis=1) if padded else np.zeros((0, 0), np.int8)


def _is_uint8(tensor: Tensor | None) -> bool:
    if tensor is None:
        return False
    return (
        tensor.dtype == np.uint8 or query.producer_of(tensor, "DynamicQuantizeLinear") is not None
    )
