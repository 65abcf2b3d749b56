"""Weights around a tensor scaled so that each of its channels has the same range in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.linear import Linear
from onnxcompress.ir.model import STANDARD, Constant, Model, Node
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.matrices import scale_inputs, to_matrices
from onnxcompress.quantization.equalization import Link, Weights, equalizing_scales

_ENDS = frozenset({"Conv", "Gemm"})

_PASSING = frozenset(
    {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Flatten"}
)
"""Operators with f(s x) = s f(x) for s > 0 that keep channels apart."""

_CLIP = "a bound is one number for all channels, so Clip does not commute with their scales"


@dataclass(frozen=True, kw_only=True)
class EqualizeChannels(Pass):
    """Conv(Relu(Conv(x, W1, b)), W2)  ->  Conv(Relu(Conv(x, W1 / s, b / s)), s W2).

    s_i = sqrt(r1_i / r2_i) with the ranges of channel i in the two weights, so that one scale for a
    whole weight suits all its channels. Depthwise and grouped Conv, Gemm, and pooling between too.
    A tensor with several readers, such as a residual one, ends the chain. So does Clip, which
    ReLU6 is: onnxruntime fuses no bounds by channel, and outputs depend on the bound.
    Source: see `quantization.equalization`.

    Attributes:
        rounds: most times through all chains; fewer if the scales settle.
        tolerance: scales nearer to 1 than this are not worth an edit.
    """

    name: ClassVar[str] = "equalize-channels"
    seeks: ClassVar[str] = "Conv or Gemm, between which scales are moved"
    exact: ClassVar[bool] = True

    rounds: int = 500
    tolerance: float = 1e-3

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        del context
        pairs: list[tuple[Node, Node]] = []
        for node in query.nodes(model, _ENDS):
            found = self._reader(model, node)
            if isinstance(found, str):
                edit.skip(node, found)
            else:
                pairs.append((node, found))
        nodes = {node: i for i, node in enumerate(dict.fromkeys(n for p in pairs for n in p))}
        links = [Link(nodes[first], nodes[second], _outputs(first)) for first, second in pairs]
        scales = equalizing_scales(
            [_weights(node) for node in nodes],
            links,
            rounds=self.rounds,
            tolerance=self.tolerance / 100,  # so that a second run finds nothing left
        )
        for (first, second), scale in zip(pairs, scales, strict=True):
            if np.abs(scale - 1).max(initial=0.0) > self.tolerance:
                _rescale(edit, first, second, scale)

    def _reader(self, model: Model, node: Node) -> Node | str:
        """The weighted node at the other end of a node's output, or why there is none."""
        if self.at(node) is None:
            return EXCLUDED
        first = Linear.feeding(model, node.outputs[0])
        if isinstance(first, str):
            return first
        reason = _unfit(node)
        tensor = node.outputs[0]
        while reason is None:
            reader = query.only_consumer(model, tensor)
            if reader is None:
                return f"{tensor.name!r} has other readers"
            if reader.op in _ENDS and reader.domain in STANDARD:
                reason = EXCLUDED if self.at(reader) is None else _unfit(reader)
                if reader.inputs[0] is not tensor:
                    reason = f"{tensor.name!r} is not the first input of {reader.name!r}"
                if reason is None and _inputs(reader) % _outputs(node):
                    reason = f"{reader.name!r} does not keep its channels apart"
                return reader if reason is None else reason
            if reader.op == "Clip":
                return _CLIP
            if reader.op not in _PASSING or reader.domain not in STANDARD:
                return f"is read by {reader.op}, through which no scale is moved"
            if reader.op == "Flatten" and reader.int_attr("axis", 1) != 1:
                return "is flattened across its channels"
            tensor = reader.outputs[0]
        return reason


def _unfit(node: Node) -> str | None:
    """Why the weight of a Conv or Gemm cannot be scaled; None if it can."""
    weight = query.constant(node, 1)
    if weight is None or weight.dtype != np.float32:
        return f"the weight of {node.name!r} is not stored as float32"
    if node.op == "Gemm" and node.int_attr("transA", 0):
        return f"{node.name!r} transposes its input (transA)"
    if any(len(query.consumers(tensor)) > 1 for tensor in node.inputs[1:] if tensor.name):
        return f"the weight or bias of {node.name!r} has other readers"
    return (
        None if np.isfinite(weight.values).all() else f"the weight of {node.name!r} is not finite"
    )


def _matrices(node: Node) -> np.ndarray:
    weight = node.inputs[1]
    assert isinstance(weight, Constant)
    return to_matrices(node, weight.values)


def _outputs(node: Node) -> int:
    """Output channels of a Conv or Gemm."""
    return int(np.prod(_matrices(node).shape[:2]))


def _inputs(node: Node) -> int:
    """Input channels of a Conv, features of a Gemm."""
    weight = _weights(node)
    return int(weight.groups * weight.magnitude.shape[1])


def _weights(node: Node) -> Weights:
    groups, outputs, features = _matrices(node).shape
    channels = (node.inputs[1].shape or ())[1] if node.op == "Conv" else features
    by_kernel = np.abs(_matrices(node)).reshape(groups * outputs, channels, -1)
    return Weights(by_kernel.max(axis=2, initial=0.0).astype(np.float64), groups)


def _rescale(edit: Editor, first: Node, second: Node, scale: np.ndarray) -> None:
    """Divides what `first` writes by the scale of each channel and makes up for it in `second`."""
    reason = Linear(first, None).scale_and_shift(edit, 1 / scale, None)
    if reason is not None:
        edit.skip(first, reason)
        return
    scale_inputs(edit, second, scale)
