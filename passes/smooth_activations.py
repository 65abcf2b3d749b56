"""Outliers of activations moved into the weights that read them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.absorb import Absorber, Shapes, readers_of_values
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant, Model, Node, Tensor
from onnxcompress.pass_base import EXCLUDED, Context, Pass
from onnxcompress.qdq.matrices import scale_inputs, to_matrices
from onnxcompress.quantization.smoothing import ChannelStatistics, best_factors

_PRODUCTS = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class _Tensor:
    """A tensor to smooth: what divides it, and the products that make up for it.

    Without an absorber a node of its own divides it, for these products alone.
    """

    absorber: Absorber | None
    readers: Sequence[Node]


@dataclass(frozen=True, kw_only=True)
class SmoothActivations(Pass):
    """MatMul(LayerNorm(x, g, b), W)  ->  MatMul(LayerNorm(x, g / s, b / s), s W).

    To run before quantize-static or quantize-dynamic, whose one scale for all channels of a tensor
    suits the widest. s_j = max|x_j|^strength / max|w_j|^(1 - strength); products that read one
    tensor share it. Tensors without outliers stay: there it would do harm.

    What takes up the division: the scale and bias of a normalization, a stored vector that is added
    or multiplied, the weight of the product before; also through Relu, a gate, or from the
    attention's output back to its value projection. No node is added unless `add_nodes` says so.
    Source: see `quantization.smoothing`.

    Attributes:
        strength: how much of the range goes to the weights, from 0 to 1 (the paper's alpha); by
            default, for each tensor, that with which int8 is expected to leave the least noise.
        least_gain: the share of that noise that must go for a tensor to be worth an edit.
        add_nodes: where nothing takes up the division, a Mul by 1 / s before the products does: in
            encoders that normalize after the residual connection, and behind Gelu. It costs one
            pass over the tensor, in float.
        per_channel: whether weights will have one scale for each output channel, as said to
            quantize-static; with one for all, less can be moved into them.
    """

    name: ClassVar[str] = "smooth-activations"
    exact: ClassVar[bool] = True

    strength: float | None = None
    least_gain: float = 0.05
    add_nodes: bool = False
    per_channel: bool = True

    def run(self, model: Model, edit: Editor, context: Context) -> None:
        """See `Pass.run`."""
        shapes = {name: each.shape for name, each in context.types(model).items()}
        outermost = set(model.graph.nodes)
        found: dict[Tensor, _Tensor] = {}
        for tensor in _inputs(model):
            smoothed = self._smoothed(model, tensor, shapes, outermost)
            if isinstance(smoothed, _Tensor):
                found[tensor] = smoothed
            else:
                products = [node for node in query.consumers(tensor) if _multiplies(node, tensor)]
                _skip(edit, products, smoothed)
        if not found:
            return
        seen = _statistics(model, found, context)
        # Last first: dividing a tensor scales the weights before it, which count for what they
        # read. So factors are those for the weights as they will be.
        for tensor in reversed(found):
            readers = found[tensor].readers
            options = self.at(readers[0])
            assert options is not None
            weights = [_by_input(node) for node in readers]
            factors = best_factors(
                seen[tensor],
                weights,
                strength=options.strength,
                least_gain=options.least_gain,
                per_channel=options.per_channel,
            )
            if isinstance(factors, str):
                _skip(edit, readers, factors)
                continue
            absorber = found[tensor].absorber
            if absorber is None:
                _divide(edit, tensor, readers, factors)
            else:
                absorber.divide(edit, factors)
            for node in readers:
                scale_inputs(edit, node, factors)

    def _smoothed(
        self, model: Model, tensor: Tensor, shapes: Shapes, outermost: Collection[Node]
    ) -> _Tensor | str:
        """How to divide a tensor that products read; or why it stays as it is."""
        readers = readers_of_values(tensor)
        products = [node for node in readers if _multiplies(node, tensor)]
        for node in products:
            if self.at(node) is None:
                return EXCLUDED
            if self.at(node) != self.at(products[0]):
                return f"readers of {tensor.name!r} have different options"
            if node not in outermost:
                return "stands in a body (If, Loop, Scan), whose tensors cannot be watched"
            weight = node.inputs[1]
            if len(query.consumers(weight)) > 1:
                return f"{weight.name!r} has other readers"
            assert isinstance(weight, Constant)
            if not np.isfinite(weight.values).all():
                return f"{weight.name!r} holds NaN or infinities"
        absorber = _absorber(model, tensor, shapes, readers, products)
        if not isinstance(absorber, str):
            return _Tensor(absorber, products)
        options = self.at(products[0])
        assert options is not None
        return _Tensor(None, products) if options.add_nodes else absorber


def _absorber(
    model: Model,
    tensor: Tensor,
    shapes: Shapes,
    readers: Iterable[Node],
    products: Collection[Node],
) -> Absorber | str:
    """What divides a tensor without a node of its own; or why nothing can."""
    for node in readers:
        if node not in products:
            return f"{tensor.name!r} is also read by {node.op} {node.name!r}"
    if model.is_output(tensor):
        return f"{tensor.name!r} is an output"
    return Absorber.of(model, tensor, shapes)


def _divide(edit: Editor, tensor: Tensor, readers: Iterable[Node], factors: np.ndarray) -> None:
    """Lets products read the tensor divided by a node."""
    inverse = edit.shared(f"{tensor.name}_inverse", (1 / factors).astype(np.float32))
    first, *_ = readers
    base = f"{tensor.name}_smoothed"
    dtype = np.dtype(np.float32)
    smooth = edit.add(
        "Mul", [tensor, inverse], near=first, base=base, dtype=dtype, shape=tensor.shape
    )
    for node in readers:
        edit.set_input(node, 0, smooth, "divided by its channels' factors")


def _skip(edit: Editor, nodes: Iterable[Node], reason: str) -> None:
    for node in nodes:
        edit.skip(node, reason)


def _inputs(model: Model) -> Iterable[Tensor]:
    """What products with a stored weight read, in the order it is computed in, once each."""
    nodes = query.nodes(model, _PRODUCTS)
    return list(dict.fromkeys(n.inputs[0] for n in nodes if _multiplies(n, n.inputs[0])))


def _multiplies(node: Node, tensor: Tensor) -> bool:
    """Whether a node is a product of a computed tensor, its first input, with a stored matrix."""
    weight = query.constant(node, 1)
    return (
        node.op in _PRODUCTS
        and node.inputs[0] is tensor
        and not isinstance(tensor, Constant)
        and weight is not None
        and weight.dtype == np.float32
        and len(weight.shape) == 2
        and not node.int_attr("transA", 0)
        and not any(other is tensor for other in list(node.inputs)[1:])
    )


def _by_input(node: Node) -> np.ndarray:
    """The weight of a product as [outputs, inputs]."""
    weight = node.inputs[1]
    assert isinstance(weight, Constant)
    matrix: np.ndarray = to_matrices(node, weight.values)[0]
    return matrix


def _statistics(
    model: Model, tensors: Iterable[Tensor], context: Context
) -> dict[Tensor, ChannelStatistics]:
    """What the channels of each tensor are like on the calibration data."""
    seen: dict[Tensor, ChannelStatistics] = {}
    names = {tensor.name: tensor for tensor in tensors}
    for batch in context.activations(model, list(names)):
        for name, tensor in names.items():
            rows = batch[name].reshape(-1, batch[name].shape[-1])
            if tensor not in seen:
                seen[tensor] = ChannelStatistics.empty(rows.shape[1])
            seen[tensor].add(rows)
    return seen
