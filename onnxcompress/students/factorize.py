"""Linear nodes written as two, with a narrow tensor between them.

Source: ONNX Conv (opset 1-22), Gemm (7-13), MatMul (1-13). A convolution becomes one of the same
kernel with few filters and one of kernel 1, as in Tai et al., "Convolutional Neural Networks with
Low-rank Regularization", 2016, section 2, and Zhang et al., "Accelerating Very Deep Convolutional
Networks for Classification and Detection", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxcompress.errors import DataError
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.linear import Linear, stored_operand
from onnxcompress.ir.model import Constant, Model, Node
from onnxcompress.pass_base import Context, is_weight
from onnxcompress.qdq.candidates import why_not_finite
from onnxcompress.qdq.matrices import add_to_bias, to_matrices
from onnxcompress.qdq.moments import input_moments
from onnxcompress.students.low_rank import LowRank

FACTORABLE = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators that can be written as two."""

_MOST_FEATURES = 4608
"""Nodes that sum more products than this go by their weight alone: moments grow with the square."""

_POSITIONS = 256
"""Rows taken of each sample: tokens of a text, output positions of a picture."""

_PLACEMENT = ("auto_pad", "dilations", "pads", "strides")
"""What the first convolution does, so that the second must not."""


@dataclass(frozen=True, kw_only=True)
class RankChoice:
    """How narrow the tensor between two factors is.

    Attributes:
        rank: as it stands; None finds it.
        energy: the smallest rank that keeps this share of the outputs' variance; None goes by
            `ratio`.
        ratio: share of the weight's parameters that both factors are to have.
        multiple: a rank that is found is rounded to a multiple of it, which kernels like.
    """

    rank: int | None = None
    energy: float | None = None
    ratio: float = 0.5
    multiple: int = 8

    def of(self, parts: LowRank) -> int:
        """The rank of each group, at least 1."""
        _, outputs, features = parts.weight.shape
        if self.rank is not None:
            return self.rank
        if self.energy is not None:
            found = parts.least_rank(self.energy)
            return math.ceil(found / self.multiple) * self.multiple
        found = int(self.ratio * outputs * features / (outputs + features))
        return max(round(found / self.multiple) * self.multiple, min(found, self.multiple), 1)


@dataclass(frozen=True)
class Factored:
    """A node and the weights that are to stand for its own.

    Attributes:
        node: the node.
        first: float64 [groups, rank, features].
        second: float64 [groups, outputs, rank].
        shift: float64 [groups * outputs]: the mean of what is lost, for the bias to take up.
        lost: share of the outputs' variance that is lost.
        by_data: whether inputs count by how they are on the data.
    """

    node: Node
    first: np.ndarray
    second: np.ndarray
    shift: np.ndarray | None
    lost: float
    by_data: bool

    def apply(self, model: Model, edit: Editor) -> None:
        """Rewrites the node; its name, output and bias stay with the second factor."""
        node, weight = self.node, query.constant(self.node, 1)
        assert weight is not None
        rank, features = self.first.shape[1:]
        stored = [np.ascontiguousarray(each, weight.dtype) for each in _stored(self, weight.shape)]
        kept = (self.first.size + self.second.size) / weight.size
        source = "calibration data" if self.by_data else "the weight alone"
        detail = (
            f"rank {rank} of {min(self.second.shape[1], features)}: {kept:.0%} of the parameters, "
            f"{self.lost:.2%} of the outputs' variance lost, by {source}"
        )
        bias = _bias_of(model, node)
        first = edit.constant(f"{weight.name}_first", stored[0])
        op = "Conv" if node.op == "Conv" else "MatMul"
        narrow = edit.add(op, [node.inputs[0], first], near=node, base=f"{node.name}_narrow")
        if node.op == "Conv":
            _move_placement(edit, node, narrow.inputs[0], len(weight.shape) - 2)
        edit.set_input(node, 0, narrow, detail)
        edit.set_values(node, 1, stored[1], "the second factor")
        if self.shift is not None and bias is not None:
            bias.add(edit, self.shift)


@dataclass(frozen=True)
class _Bias:
    """A stored bias with one number for each output."""

    holder: Node
    index: int

    def add(self, edit: Editor, shift: np.ndarray) -> None:
        if self.holder.op != "Add":
            add_to_bias(edit, self.holder, shift)
            return
        old = query.constant(self.holder, self.index)
        assert old is not None
        values = (old.values + shift.reshape(old.shape)).astype(old.dtype)
        edit.set_values(self.holder, self.index, values, "takes up the mean of what is lost")


def why_not(model: Model, node: Node, outermost: Collection[Node]) -> str | None:
    """Why a node cannot be written as two; None if it can."""
    weight = query.constant(node, 1)
    if weight is None:
        return "its weight is not stored"
    if not is_weight(weight):
        return f"its weight is {weight.dtype}"
    if len(query.consumers(weight)) > 1:
        return f"{weight.name!r} has other readers"
    if isinstance(node.inputs[0], Constant):
        return "its input is stored, not computed"
    if node.op == "MatMul" and len(weight.shape) != 2:
        return f"its weight {list(weight.shape)} is not one matrix"
    if node.op == "Gemm" and node.int_attr("transA", 0):
        return "transposes its input (transA)"
    if node not in outermost:
        return "stands in a body (If, Loop, Scan), whose tensors cannot be watched"
    other = _other_factor(model, node)
    if other is not None:
        return f"is a product of low rank together with {other.name!r}"
    return why_not_finite(weight)


def factor(
    model: Model, choices: Mapping[Node, RankChoice], context: Context, *, by_data: bool = True
) -> Iterator[Factored | tuple[Node, str]]:
    """Factors of nodes, portion by portion; the model is left as it is meanwhile.

    Args:
        model: what is run.
        choices: nodes for which `why_not` is None, with how narrow each is to become.
        context: lends activations.
        by_data: whether inputs count by how they are on the calibration data, if there is any.

    Yields:
        The factors; or a node and why none save anything.
    """
    seen: set[Node] = set()
    small = [node for node in choices if _features(node) <= _MOST_FEATURES]
    if by_data and small:
        try:
            for portion in input_moments(model, small, context, _POSITIONS):
                for node, moments in portion.items():
                    seen.add(node)
                    biased = _bias_of(model, node) is not None
                    second = moments.covariance if biased else moments.second
                    yield _factored(node, choices[node], second, moments.mean if biased else None)
        except DataError:  # there is none: what was not seen goes by its weight alone
            if seen:
                raise
    for node in choices:
        if node not in seen:
            yield _factored(node, choices[node], None, None)


def _factored(
    node: Node, choice: RankChoice, moments: np.ndarray | None, mean: np.ndarray | None
) -> Factored | tuple[Node, str]:
    weight = query.constant(node, 1)
    assert weight is not None
    matrices = to_matrices(node, weight.values)
    _, outputs, features = matrices.shape
    if _saves_nothing(choice.rank or 1, outputs, features):
        return node, _nothing_saved(choice.rank or 1, outputs, features)
    parts = LowRank.of(matrices, moments)
    rank = choice.of(parts)
    if _saves_nothing(rank, outputs, features):
        return node, _nothing_saved(rank, outputs, features)
    first, second = parts.factors(rank)
    shift = None
    if mean is not None:
        shift = np.einsum("gof,gf->go", parts.weight - second @ first, mean).reshape(-1)
    return Factored(node, first, second, shift, parts.lost(rank), moments is not None)


def _saves_nothing(rank: int, outputs: int, features: int) -> bool:
    return rank * (outputs + features) >= outputs * features


def _nothing_saved(rank: int, outputs: int, features: int) -> str:
    return (
        f"rank {rank} saves nothing: factors of {rank * (outputs + features)} numbers "
        f"for a matrix of {outputs} x {features}"
    )


def _features(node: Node) -> int:
    weight = query.constant(node, 1)
    assert weight is not None
    return weight.size // weight.shape[0] if node.op == "Conv" else weight.size // _outputs(node)


def _outputs(node: Node) -> int:
    weight = query.constant(node, 1)
    assert weight is not None
    return int(to_matrices(node, weight.values).shape[1])


def _stored(factored: Factored, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Both weights as their nodes keep them, for a weight of that shape."""
    node, first, second = factored.node, factored.first, factored.second
    if node.op == "Conv":
        ones = (1,) * (len(shape) - 2)
        rank = first.shape[1]
        return first.reshape(-1, *shape[1:]), second.reshape(shape[0], rank, *ones)
    turned = node.op == "Gemm" and node.int_attr("transB", 0)
    return first[0].T, second[0] if turned else second[0].T


def _move_placement(edit: Editor, node: Node, first: Node, axes: int) -> None:
    """The first convolution slides over the input; the second one looks at single places."""
    attributes = {name: node.attrs[name] for name in (*_PLACEMENT, "group") if name in node.attrs}
    for name, attribute in attributes.items():
        edit.set_attribute(first, name, onnx.helper.get_attribute_value(attribute))
    for name in _PLACEMENT:
        node.attrs.pop(name, None)
    edit.set_attribute(node, "kernel_shape", [1] * axes)


def _bias_of(model: Model, node: Node) -> _Bias | None:
    """Where the node's output gets a stored number for each channel."""
    outputs = _outputs(node) * (node.int_attr("group", 1) if node.op == "Conv" else 1)
    holder, index = node, 2
    if node.op == "Gemm" and node.float_attr("beta", 1.0) != 1.0:
        return None
    if node.op == "MatMul":
        add = query.only_consumer(model, node.outputs[0])
        place = stored_operand(add) if add is not None and add.op == "Add" else None
        if add is None or place is None:
            return None
        holder, index = add, place
    bias = query.constant(holder, index)
    fits = bias is not None and bias.size == outputs and bias.shape[-1:] == (outputs,)
    return _Bias(holder, index) if fits else None


def _other_factor(model: Model, node: Node) -> Node | None:
    """The node with which this one is a product of two stored matrices, narrow between them."""
    before = Linear.feeding(model, node.inputs[0])
    if isinstance(before, Linear) and _is_narrow(before, node):
        return before.node
    after = query.only_consumer(model, node.outputs[0])
    if after is not None and after.op in FACTORABLE and is_weight(query.constant(after, 1)):
        linear = Linear.feeding(model, after.inputs[0])
        if isinstance(linear, Linear) and linear.node is node and _is_narrow(linear, after):
            return after
    return None


def _is_narrow(first: Linear, second: Node) -> bool:
    node = first.node
    if first.add is not None or query.has_input(node, 2) or node.op not in FACTORABLE:
        return False
    if not is_weight(query.constant(second, 1)):
        return False
    rank, features = to_matrices(node, first.weight.values).shape[1:]
    return bool(rank < min(features, _outputs(second)))
