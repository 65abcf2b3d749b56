"""How operators that work element by element tie what they read and write.

Source: the multidirectional broadcasting rules of ONNX (opset 7 and later).
"""

from __future__ import annotations

from onnxcompress.channels.space import Space
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Node, Tensor


def tie_broadcast(space: Space, node: Node) -> None:
    """Ties axes counted from the end; an axis of length 1 that is stretched is left alone."""
    for result in (each for each in node.outputs if each.name):  # Dropout has a mask too
        for tensor in node.inputs:
            if not query.is_omitted(tensor):
                tie_aligned(space, tensor, result)


def tie_sum(space: Space, node: Node) -> None:
    """As `tie_broadcast`; what is stored is a bias, which may be zeroed."""
    tie_broadcast(space, node)
    for tensor in node.inputs:
        if isinstance(tensor, Constant):
            for axis, length in enumerate(tensor.shape):
                if length > 1:
                    space.weigh(tensor, axis)


def tie_aligned(space: Space, tensor: Tensor, result: Tensor) -> None:
    """Ties the axes of a tensor to those of what it is broadcast to."""
    ours, theirs = space.axes_of(tensor), space.axes_of(result)
    for own, other in zip(reversed(ours), reversed(theirs), strict=False):
        if own.length == other.length:
            space.tie(own.slots, other.slots)


def is_uniform(tensor: Tensor) -> bool:
    """Whether a tensor is a stored vector of one number throughout, which may have any length."""
    if not isinstance(tensor, Constant) or len(tensor.shape) != 1 or tensor.size == 1:
        return False
    values = tensor.values
    return bool((values == values[0]).all())


def tie_quantization(space: Space, node: Node) -> None:
    """QuantizeLinear and DequantizeLinear: one scale, one a slot of an axis, or one a block."""
    tensor, result = node.inputs[0], node.outputs[0]
    tie_aligned(space, tensor, result)
    stored = isinstance(tensor, Constant) and len(tensor.shape) > 0
    for own in space.axes_of(tensor) if stored else ():
        space.weigh(tensor, own.axis)
    if node.int_attr("block_size", 0):
        axis = node.int_attr("axis", 1) % space.rank(tensor)
        space.fix(space.axis(tensor, axis), f"{node.name!r} has a scale for blocks of it")
        for parameters in list(node.inputs)[1:]:
            for own, other in zip(space.axes_of(parameters), space.axes_of(tensor), strict=True):
                if own.axis != axis:
                    space.tie(own.slots, other.slots)
        return
    for parameters in list(node.inputs)[1:]:
        if is_uniform(parameters):  # often one vector of zeros, shared by nodes that are not alike
            continue
        if space.knows(parameters) and space.rank(parameters) == 1:
            scales = space.axis(parameters, 0)
            if len(scales) > 1:
                space.tie(scales, space.axis(tensor, node.int_attr("axis", 1)))
