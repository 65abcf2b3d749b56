"""Linear nodes seen alike: y = W x + b for Conv, ConvTranspose, Gemm and MatMul (+ Add).

Source: ONNX Conv (opset 1-22), ConvTranspose (1-22), Gemm (7-13), MatMul (1-13).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import STANDARD, Constant, Model, Node, Tensor
from onnxcompress.ir.ops import WEIGHTED_OPS, output_channel_axis


@dataclass(frozen=True)
class Linear:
    """A linear node with a stored weight, and the Add that is its bias if it is a MatMul with one.

    Attributes:
        node: a Conv, ConvTranspose, Gemm or MatMul.
        add: for a MatMul, the Add of a stored vector that alone reads its output.
    """

    node: Node
    add: Node | None

    @classmethod
    def feeding(cls, model: Model, tensor: Tensor) -> Linear | str:
        """The linear node that writes `tensor` for a single reader; or why there is none."""
        node = query.producer(tensor)
        if node is None:
            return "reads a graph input or a stored tensor, not a linear node"
        if node.domain not in STANDARD:
            return f"reads {node.domain}.{node.op}, which is not a standard operator"
        if query.only_consumer(model, tensor) is None:
            return f"{tensor.name!r} has other readers"
        add = None
        if node.op == "Add" and (bias := stored_operand(node)) is not None:
            matmul = query.producer_of(node.inputs[1 - bias], "MatMul")
            if matmul is not None:
                if query.only_consumer(model, matmul.outputs[0]) is None:
                    return f"{matmul.outputs[0].name!r} has other readers"
                add, node = node, matmul
        if node.op not in WEIGHTED_OPS:
            return f"reads {node.op}, which is not linear with a stored weight"
        weight = query.constant(node, WEIGHTED_OPS[node.op].weight)
        if weight is None:
            return f"the weight of {node.name!r} is not stored"
        if weight.dtype not in (np.float32, np.float64, np.float16):
            return f"the weight of {node.name!r} is {weight.dtype}"
        if isinstance(node.inputs[0], Constant):
            return f"{node.name!r} reads stored tensors alone"
        if node.op == "MatMul" and len(weight.shape) != 2:
            return f"the weight of {node.name!r} is not a matrix"
        return cls(node, add)

    @property
    def weight(self) -> Constant:
        """The stored weight."""
        weight = query.constant(self.node, 1)
        assert weight is not None
        return weight

    @property
    def channels(self) -> int:
        """Output channels."""
        axis = output_channel_axis(self.node, len(self.weight.shape))
        groups = self.node.int_attr("group", 1) if self.node.op == "ConvTranspose" else 1
        return self.weight.shape[axis] * groups

    def growth(self, model: Model, follower: Node) -> int:
        """Bytes that the file gains if the node's weight takes up what follows it.

        That is the weight once more where other nodes read it, unless what follows them is alike.

        Args:
            model: the node's.
            follower: what is to be folded.
        """
        readers = [each for each in query.consumers(self.weight) if each is not self.node]
        alike = all(self._is_followed_alike(model, reader, follower) for reader in readers)
        return 0 if alike and not model.is_output(self.weight) else self.weight.nbytes

    def _is_followed_alike(self, model: Model, reader: Node, follower: Node) -> bool:
        found = query.only_consumer(model, reader.outputs[0])
        if found is not None and self.add is not None and found.op == "Add":
            found = query.only_consumer(model, found.outputs[0])
        return found is not None and _are_alike(found, follower)

    def scale_and_shift(
        self, edit: Editor, scale: np.ndarray, shift: np.ndarray | None
    ) -> str | None:
        """Makes the node compute `scale * y + shift`, per output channel.

        Args:
            edit: records the change.
            scale: float64, one for each output channel, or a scalar.
            shift: likewise; None for none.

        Returns:
            None, or why it cannot be done; then nothing was changed.
        """
        for factor in (scale, shift):
            if factor is not None and factor.size not in (1, self.channels):
                return f"{factor.size} factors for the {self.channels} channels of {self.node.name}"
        bias = self._bias()
        if isinstance(bias, str):
            return bias
        dtype = self.weight.dtype
        scale = np.broadcast_to(scale.reshape(-1), self.channels)
        shift = None if shift is None else shift.reshape(-1)
        with np.errstate(over="ignore"):
            weight = self._scaled_weight(scale).astype(dtype)
            values = None
            if bias is not None or shift is not None:
                total = (0.0 if bias is None else bias * scale) + (0.0 if shift is None else shift)
                values = np.broadcast_to(total, self.channels).astype(dtype)
        if not np.isfinite(weight).all() or not (values is None or np.isfinite(values).all()):
            return f"the folded weight of {self.node.name!r} would leave the range of {dtype}"
        if not (scale == 1).all():  # readers of one weight that are scaled alike go on sharing one
            edit.set_input(self.node, 1, edit.shared(self.weight.name, weight), "weight scaled")
        if values is not None:
            self._set_bias(edit, values)
        return None

    def _set_bias(self, edit: Editor, values: np.ndarray) -> None:
        if self.add is not None:
            index = stored_operand(self.add)
            assert index is not None
            # Axes of length 1 before the last may decide the rank of the result.
            rank = max(query.rank(self.add.inputs[index]) or 0, 1)
            values = values.reshape([1] * (rank - 1) + [-1])
            edit.set_values(self.add, index, values, "bias scaled and shifted")
            return
        constant = edit.constant(f"{self.node.name}_bias", values)
        if self.node.op != "MatMul":
            edit.set_input(self.node, 2, constant, "bias scaled and shifted")
            return
        product = self.node.outputs[0]
        dtype, shape = product.dtype, product.shape
        total = edit.add(
            "Add", [product, constant], near=self.node, base=product.name, dtype=dtype, shape=shape
        )
        edit.redirect(product, total, keep=total.inputs)

    def _bias(self) -> np.ndarray | str | None:
        """The bias as float64 [channels]; None if there is none; or why it cannot be folded."""
        if self.node.op == "Gemm" and self.node.float_attr("beta", 1.0) != 1.0:
            return f"{self.node.name!r} scales its bias (beta)"
        if self.add is not None:
            index = stored_operand(self.add)
            assert index is not None
            bias = query.constant(self.add, index)
        elif not query.has_input(self.node, 2):
            return None
        else:
            bias = query.constant(self.node, 2)
        if bias is None:
            return f"the bias of {self.node.name!r} is not stored"
        values = bias.values.astype(np.float64)
        fits = values.size == 1 or values.shape[-1] == self.channels
        if not fits or values.size > self.channels:
            return f"the bias of {self.node.name!r} is not one value a channel"
        return np.broadcast_to(values.reshape(-1), self.channels)

    def _scaled_weight(self, scale: np.ndarray) -> np.ndarray:
        """The weight, float64, times one factor for each output channel."""
        weight = self.weight.values.astype(np.float64)
        ones = [1] * (weight.ndim - 2)
        scaled: np.ndarray
        if self.node.op == "ConvTranspose":  # [in, out / group, ...]: the channels of group g lie
            groups = self.node.int_attr("group", 1)  # in the g-th slice of the first axis
            parts = weight.reshape(groups, -1, *weight.shape[1:])
            scaled = (parts * scale.reshape(groups, 1, -1, *ones)).reshape(weight.shape)
            return scaled
        by_row = output_channel_axis(self.node, weight.ndim) == 0
        scaled = weight * scale.reshape([-1, 1, *ones] if by_row else [1, -1])
        return scaled


def _are_alike(node: Node, other: Node) -> bool:
    """Whether two nodes do the same to what they read that is computed."""
    if node.op != other.op or node.attrs != other.attrs or len(node.inputs) != len(other.inputs):
        return False
    for first, second in zip(node.inputs, other.inputs, strict=True):
        if isinstance(first, Constant) != isinstance(second, Constant):
            return False
        if isinstance(first, Constant) and isinstance(second, Constant) and first is not second:
            same = first.dtype == second.dtype and first.shape == second.shape
            if not same or not np.array_equal(first.values, second.values):
                return False
    return True


def why_too_large(linear: Linear, growth: int, most: int) -> str | None:
    """Why a weight that other nodes read as well is not stored once more; None if it may be."""
    if growth <= most:
        return None
    name = linear.weight.name
    return f"others read {name!r} too: storing it once more would add {growth} bytes"


def stored_operand(node: Node) -> int | None:
    """Which of two operands is a stored tensor; None if none or both are."""
    stored = [isinstance(tensor, Constant) for tensor in node.inputs[:2]]
    return stored.index(True) if sum(stored) == 1 else None
