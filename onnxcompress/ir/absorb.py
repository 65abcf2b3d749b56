"""What can take up a factor for each channel of a tensor, without a node of its own.

From the tensor back through what passes factors on: Transpose, Reshape, Add, Relu, a product with
another tensor, an attention's sum of values; up to what stores numbers for each channel: the scale
and bias of a normalization, a vector that is added or multiplied, a weight.

Source: ONNX LayerNormalization (opset 17), RMSNormalization (23), MatMul (1-13), Reshape (5-25),
Transpose (1-25); onnxruntime's SimplifiedLayerNormalization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxcompress.errors import ModelError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.linear import Linear, stored_operand
from onnxcompress.ir.model import Constant, Model, Node, Tensor

Shapes = Mapping[str, tuple[int, ...]]
"""Tensors' shapes by name, as one sample has them."""

NORMALIZATIONS = frozenset(
    {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}
)
"""Operators whose second input scales each channel, and whose third, if any, is added."""

_NONE = -1
"""In the place of a channel: what belongs to another tensor and stays as it is."""

_BLIND = frozenset({"Shape", "Size"})
"""Operators that do not look at values."""

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity"})
"""Operators with f(s x) = s f(x) for s > 0, element by element."""


@dataclass(frozen=True)
class _Vector:
    """A stored input of a node that is divided by the factors."""

    node: Node
    index: int


@dataclass(frozen=True)
class _Place:
    """Something stored, and the channel that each of its numbers belongs to.

    Attributes:
        holder: a vector, or a linear node whose output channels are meant.
        channels: int, the channel of the tensor for each number, or `_NONE`; broadcasts with a
            vector.
    """

    holder: _Vector | Linear
    channels: np.ndarray


@dataclass(frozen=True)
class Absorber:
    """The places that together divide a tensor."""

    places: tuple[_Place, ...]

    @classmethod
    def of(cls, model: Model, tensor: Tensor, shapes: Shapes) -> Absorber | str:
        """What can divide each channel (last axis) of a tensor; or why nothing can.

        The tensor itself may have any readers; all of them see it divided.
        """
        shape = shapes.get(tensor.name)
        if not shape:
            return f"the shape of {tensor.name!r} is not known"
        channels = np.arange(shape[-1]).reshape([1] * (len(shape) - 1) + [-1])
        found = _Search(model, shapes).places(tensor, channels)
        return found if isinstance(found, str) else cls(tuple(found))

    def divide(self, edit: Editor, factors: np.ndarray) -> None:
        """Divides the tensor, channel by channel.

        Args:
            edit: records the change.
            factors: float64 [channels], > 0.

        Raises:
            ModelError: a weight or bias cannot take its factor up.
        """
        factors = np.append(factors, 1.0)  # what `_NONE` stands for
        for place in self.places:
            divisors = factors[place.channels]
            if isinstance(place.holder, Linear):
                reason = place.holder.scale_and_shift(edit, 1 / divisors, None)
                if reason is not None:
                    raise ModelError(reason)
                continue
            node, index = place.holder.node, place.holder.index
            vector = node.inputs[index]
            assert isinstance(vector, Constant)
            divided = (vector.values / divisors).astype(vector.dtype)
            edit.set_values(node, index, divided, "channels divided")


class _Search:
    """Follows factors from a tensor to what stores them."""

    def __init__(self, model: Model, shapes: Shapes):
        self._model = model
        self._shapes = shapes

    def places(self, tensor: Tensor, channels: np.ndarray) -> list[_Place] | str:
        """Where to divide so that this tensor is divided.

        Args:
            tensor: computed.
            channels: int, as many axes as the tensor: the channel of each element, broadcast.
        """
        node = query.producer(tensor)
        if node is None:
            return f"{tensor.name!r} is computed by nothing that could scale it"
        if node.op == "Split":
            return self._before_split(node, tensor, channels)
        if tensor is not node.outputs[0]:
            return f"{tensor.name!r} is not the first output of {node.op}"
        if node.op in NORMALIZATIONS:
            return _of_normalization(node, channels)
        if node.op in ("MatMul", "Gemm") and query.constant(node, 1) is not None:
            return self._of_linear(node, channels)
        if node.op in ("Add", "Mul"):
            return self._of_pair(node, channels)
        if node.op in _HOMOGENEOUS:
            return self._behind(node, 0, channels)
        if node.op == "Transpose":
            order = node.ints_attr("perm", tuple(reversed(range(channels.ndim))))
            return self._behind(node, 0, channels.transpose(np.argsort(order)))
        if node.op == "Reshape":
            moved = self._before_reshape(node, channels)
            return moved if isinstance(moved, str) else self._behind(node, 0, moved)
        if node.op == "MatMul" and channels.shape[-2] == 1:  # sums over values: attention
            return self._behind(node, 1, channels)
        return f"{node.op} {node.name!r} passes no factors on"

    def _behind(self, node: Node, index: int, channels: np.ndarray) -> list[_Place] | str:
        """As `places`, for an input that nothing but this node may read."""
        tensor = node.inputs[index]
        if readers_of_values(tensor) != [node] or self._model.is_output(tensor):
            return f"{tensor.name!r} has other readers"
        shape = self._shapes.get(tensor.name)
        if shape is None or len(shape) != channels.ndim:
            return f"the axes of {tensor.name!r} are not those of what is made of it"
        if any(n not in (1, own) for n, own in zip(channels.shape, shape, strict=True)):
            return f"{tensor.name!r} is broadcast"
        return self.places(tensor, channels)

    def _before_split(self, node: Node, tensor: Tensor, channels: np.ndarray) -> list[_Place] | str:
        """The channels are those of one part; the others stay as they are."""
        axis = node.int_attr("axis", 0) % channels.ndim
        widths = [self._shapes.get(part.name, ())[axis:][:1] for part in node.outputs]
        if axis != channels.ndim - 1 or not all(widths):
            return f"{node.op} {node.name!r} divides another axis than the channels"
        parts = [np.full((*channels.shape[:-1], *width), _NONE) for width in widths]
        place = next(i for i, part in enumerate(node.outputs) if part is tensor)
        parts[place] = np.broadcast_to(channels, parts[place].shape)
        return self._behind(node, 0, np.concatenate(parts, axis=-1))

    def _of_linear(self, node: Node, channels: np.ndarray) -> list[_Place] | str:
        weight = query.constant(node, 1)
        if weight is None or len(weight.shape) != 2 or channels.size != channels.shape[-1]:
            return f"the channels of {node.op} {node.name!r} are not the columns of a matrix"
        if query.has_input(node, 2):
            if query.constant(node, 2) is None:
                return f"the bias of {node.name!r} is not stored"
            if node.float_attr("beta", 1.0) != 1.0:
                return f"{node.name!r} scales its bias (beta)"
        return [_Place(Linear(node, None), channels.reshape(-1))]

    def _of_pair(self, node: Node, channels: np.ndarray) -> list[_Place] | str:
        stored = stored_operand(node)
        if stored is not None:
            if node.inputs[stored].shape in ((), (1,)) and channels.size > 1:
                return f"{node.op} {node.name!r} has one number for all channels, as in Gelu"
            vector = _Place(_Vector(node, stored), _trimmed(channels))
            if node.op == "Mul":
                return [vector]
            rest = self._behind(node, 1 - stored, channels)
            return rest if isinstance(rest, str) else [*rest, vector]
        first, second = (self._behind(node, index, channels) for index in (0, 1))
        if node.op == "Mul":
            return first if isinstance(second, str) else second
        if isinstance(first, str) or isinstance(second, str):
            return first if isinstance(first, str) else second
        return [*first, *second]

    def _before_reshape(self, node: Node, channels: np.ndarray) -> np.ndarray | str:
        """The channels of a Reshape's input: axes merged, split, or left as they are."""
        before = self._shapes.get(node.inputs[0].name)
        after = self._shapes.get(node.outputs[0].name)
        if before is None or after is None:
            return f"the shapes around {node.name!r} are not known"
        last = channels.shape[-1]
        if before[-1:] == after[-1:] and channels.size == last:
            return channels.reshape([1] * (len(before) - 1) + [last])
        outer = 0
        while outer < min(len(before), len(after)) - 1 and before[outer] == after[outer]:
            outer += 1
        if channels.shape[outer:] != after[outer:]:
            return f"Reshape {node.name!r} mixes channels with other axes"
        if any(n != 1 for n in channels.shape[:outer]):
            return f"Reshape {node.name!r} mixes channels with other axes"
        return channels.reshape(*[1] * outer, *before[outer:])


def readers_of_values(tensor: Tensor) -> list[Node]:
    """The nodes to which the values of a tensor matter, once each."""
    return [node for node in query.consumers(tensor) if node.op not in _BLIND]


def _of_normalization(node: Node, channels: np.ndarray) -> list[_Place] | str:
    last = channels.size == channels.shape[-1]
    if not last or node.int_attr("axis", -1) not in (-1, channels.ndim - 1):
        return f"{node.name!r} normalizes more than its channels"
    places: list[_Place] = []
    for index in (1, 2):
        if index == 2 and not query.has_input(node, 2):
            continue
        if query.constant(node, index) is None:
            return f"the scale or bias of {node.name!r} is not stored"
        places.append(_Place(_Vector(node, index), _trimmed(channels)))
    return places


def _trimmed(channels: np.ndarray) -> np.ndarray:
    """Without leading axes of length 1, which a stored vector need not have."""
    while channels.ndim > 1 and channels.shape[0] == 1:
        channels = channels[0]
    return channels
