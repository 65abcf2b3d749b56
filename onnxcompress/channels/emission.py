"""What masked channels still emit: the one number that a slot holds whatever the input.

A channel whose weights are zero emits its bias, after a Sigmoid 0.5 of it, and so on. Where that
number is 0, or can be added to the bias of what reads it, the channel can be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx

from onnxcompress.channels.functions import FUNCTIONS, OMITTED, absorbing
from onnxcompress.channels.movement import pads
from onnxcompress.channels.products import GATES, einsum_letters, takes_statistics
from onnxcompress.channels.space import Axis, Space
from onnxcompress.ir import query
from onnxcompress.ir.model import Constant, Model, Node, Tensor

UNKNOWN = np.nan


class Emissions:
    """The number each slot is known to hold; NaN where it depends on the input.

    Args:
        space: the model's slots.
        model: with the weights as they are.
        axes: of stored tensors, the axes that matter; the others are not looked at.
    """

    def __init__(self, space: Space, model: Model, axes: Collection[Axis]):
        self._space = space
        self.values = np.full(space.size, UNKNOWN)
        wanted = set(axes)
        for axis in space.axes:
            if isinstance(axis.tensor, Constant) and (axis in wanted or len(axis.tensor.shape) < 2):
                self.values[axis.slots] = _uniform(axis.tensor.values, axis.axis)
        for node in model.graph.nodes:
            self._follow(node)

    def at(self, tensor: Tensor, axis: int) -> np.ndarray:
        """float64 [length]: what the slots of one axis hold."""
        found: np.ndarray = self.values[self._space.axis(tensor, axis)]
        return found

    def _follow(self, node: Node) -> None:
        if not all(self._space.knows(t) for t in [*node.inputs, *node.outputs] if t.name):
            return
        if node in self._space.moves:
            self._move(node)
        elif node.op in FUNCTIONS:
            self._apply(node)
        elif node.op in _RULES:
            _RULES[node.op](self, self._space, node)

    def _move(self, node: Node) -> None:
        """A slot holds what all its sources hold, if they agree."""
        pairs = self._space.moves[node]
        sources = self.values[np.concatenate([source for source, _ in pairs])]
        targets = np.concatenate([target for _, target in pairs])
        low, high = np.full(self._space.size, np.inf), np.full(self._space.size, -np.inf)
        with np.errstate(invalid="ignore"):  # NaN compares with nothing, and stays
            np.minimum.at(low, targets, sources)
            np.maximum.at(high, targets, sources)
        reached = np.unique(targets)
        self.values[reached] = np.where(low == high, low, UNKNOWN)[reached]
        if node.op == "Pad":
            self._pad(node)

    def _pad(self, node: Node) -> None:
        """New slots hold the value that is padded with; old ones only if it is theirs too."""
        y = node.outputs[0]
        rank = self._space.rank(y)
        amounts, value = pads(self._space, node), _pad_value(node)
        for axis in range(rank):
            slots = self._space.axis(y, axis)
            if amounts is None:
                self.values[slots] = UNKNOWN
                continue
            before, behind = amounts
            elsewhere = any(
                before[other] or behind[other] for other in range(rank) if other != axis
            )
            if elsewhere:
                held = self.values[slots]
                self.values[slots] = np.where(held == value, held, UNKNOWN)
            self.values[slots[: before[axis]]] = value
            self.values[slots[len(slots) - behind[axis] :]] = value

    def _apply(self, node: Node) -> None:
        """Element by element: a function of what the operands hold."""
        function = FUNCTIONS[node.op]
        y = node.outputs[0]
        for axis in self._space.axes_of(y):
            operands = [
                OMITTED
                if query.is_omitted(tensor)
                else self.operand(tensor, axis.axis - self._space.rank(y))
                for tensor in node.inputs
            ]
            with np.errstate(all="ignore"):
                held = np.broadcast_to(function(node, operands), axis.length).astype(np.float64)
            self.values[axis.slots] = np.where(np.isfinite(held), held, UNKNOWN)

    def operand(self, tensor: Tensor, axis: int) -> np.ndarray:
        """float64 [length] or [1]: what an operand holds along an axis counted from the end."""
        if isinstance(tensor, Constant) and tensor.size == 1:
            return tensor.values.reshape(1).astype(np.float64)
        if -axis > self._space.rank(tensor):
            return np.array([UNKNOWN])
        return self.at(tensor, axis)


Rule = Callable[[Emissions, Space, Node], None]


def _quantization(emissions: Emissions, space: Space, node: Node) -> None:
    """QuantizeLinear and DequantizeLinear; of the former, what zero becomes is all that is told."""
    if node.int_attr("block_size", 0):
        return
    x, y = node.inputs[0], node.outputs[0]
    channel = node.int_attr("axis", 1)
    for axis in space.axes_of(y):
        along = axis.axis == channel % space.rank(y)
        scale, zero = (
            _quantization_parameter(emissions, node, index, along=along) for index in (1, 2)
        )
        held = emissions.at(x, axis.axis)
        if node.op == "QuantizeLinear":
            emissions.values[axis.slots] = np.where(held == 0, zero, UNKNOWN)
        else:
            emissions.values[axis.slots] = absorbing(held - zero, scale)


def _quantization_parameter(
    emissions: Emissions, node: Node, index: int, *, along: bool
) -> np.ndarray:
    """Scale or zero point along an axis, float64 [length] or [1]; NaN if it differs across it."""
    stored = query.constant(node, index)
    if stored is None:
        return np.array([UNKNOWN if query.has_input(node, index) else 0.0])
    if along and stored.size > 1:
        return emissions.at(stored, 0)
    values = stored.values.reshape(-1).astype(np.float64)
    return values[:1] if (values == values[0]).all() else np.array([UNKNOWN])


def _conv(emissions: Emissions, space: Space, node: Node) -> None:
    """A filter that is zero leaves the bias; so does a channel that is zero to its own filter."""
    weight = node.inputs[1]
    outputs = 0 if node.op == "Conv" else 1
    group = node.int_attr("group", 1)
    rows = emissions.at(weight, outputs)
    if outputs == 1:
        rows = np.tile(rows, group)
    silent = rows == 0
    channels = emissions.at(node.inputs[0], 1)
    if len(channels) == group > 1:
        filters = channels if outputs == 0 else emissions.at(weight, 0)
        for held in (channels, filters):
            silent |= np.repeat(held == 0, len(silent) // group)
    bias = emissions.at(node.inputs[2], 0) if query.has_input(node, 2) else 0.0
    emissions.values[space.axis(node.outputs[0], 1)] = np.where(silent, bias, UNKNOWN)


def _gemm(emissions: Emissions, space: Space, node: Node) -> None:
    columns = emissions.at(node.inputs[1], 0 if node.int_attr("transB", 0) else 1)
    bias: np.ndarray | float = 0.0
    if query.has_input(node, 2):
        bias = emissions.operand(node.inputs[2], -1) * node.float_attr("beta", 1.0)
    emissions.values[space.axis(node.outputs[0], 1)] = np.where(columns == 0, bias, UNKNOWN)


def _matmul(emissions: Emissions, space: Space, node: Node) -> None:
    """What is zero in either factor, along any axis that is not summed over, is zero."""
    y = node.outputs[0]
    a, b = node.inputs
    if min(space.rank(a), space.rank(b)) < 2:
        return
    for axis in space.axes_of(y):
        place = axis.axis - space.rank(y)
        silent = np.zeros(axis.length, bool)
        for factor, summed in ((a, -1), (b, -2)):
            other = -1 if factor is a else -2  # a has no columns of y, b no rows
            if place not in (summed, other) and -place <= space.rank(factor):
                held = emissions.at(factor, place)
                silent |= held == 0 if len(held) == axis.length else bool((held == 0).all())
        emissions.values[axis.slots] = np.where(silent, 0.0, UNKNOWN)


def _einsum(emissions: Emissions, space: Space, node: Node) -> None:
    """What is zero in either factor, along any axis of the result, is zero."""
    letters = einsum_letters(space, node)
    if letters is None:
        return
    for axis, letter in zip(space.axes_of(node.outputs[0]), letters[2], strict=True):
        silent = np.zeros(axis.length, bool)
        for tensor, own in zip(node.inputs, letters[:2], strict=True):
            if letter in own:
                silent |= emissions.at(tensor, own.index(letter)) == 0
        emissions.values[axis.slots] = np.where(silent, 0.0, UNKNOWN)


def _batchnorm(emissions: Emissions, space: Space, node: Node) -> None:
    held = emissions.at(node.inputs[0], 1)
    scale, bias, mean, variance = (emissions.at(tensor, 0) for tensor in list(node.inputs)[1:5])
    result = (held - mean) / np.sqrt(variance + node.float_attr("epsilon", 1e-5)) * scale + bias
    if takes_statistics(node):
        result = UNKNOWN
    emissions.values[space.axis(node.outputs[0], 1)] = np.where(scale == 0, bias, result)


def _instance_norm(emissions: Emissions, space: Space, node: Node) -> None:
    held, scale, bias = (
        emissions.at(node.inputs[0], 1),
        *(emissions.at(tensor, 0) for tensor in list(node.inputs)[1:3]),
    )
    silent = (scale == 0) | np.isfinite(held)
    emissions.values[space.axis(node.outputs[0], 1)] = np.where(silent, bias, UNKNOWN)


def _group_norm(emissions: Emissions, space: Space, node: Node) -> None:
    """As of an instance, where all channels of a group hold the same."""
    held = emissions.at(node.inputs[0], 1).reshape(node.int_attr("num_groups", 1), -1)
    constant = np.isfinite(held) & (held == held[:, :1]).all(axis=1, keepdims=True)
    scale, bias = (
        emissions.at(tensor, 0).reshape(len(held), -1) for tensor in list(node.inputs)[1:3]
    )
    result = np.where((scale == 0) | constant, bias, UNKNOWN)
    emissions.values[space.axis(node.outputs[0], 1)] = result.reshape(-1)


def _pool(emissions: Emissions, space: Space, node: Node) -> None:
    """A constant stays one; at a border only if zero, or if the border does not count."""
    held = emissions.at(node.inputs[0], 1)
    exact = node.op in ("MaxPool", "GlobalMaxPool", "GlobalAveragePool")
    if node.op == "AveragePool":
        exact = not node.int_attr("count_include_pad", 0)
    if node.op == "Resize":
        cropped = node.text_attr("coordinate_transformation_mode", "") == "tf_crop_and_resize"
        exact = node.text_attr("mode", "nearest") != "cubic" and not cropped
    emissions.values[space.axis(node.outputs[0], 1)] = np.where(exact | (held == 0), held, UNKNOWN)


def _reduce(emissions: Emissions, space: Space, node: Node) -> None:
    """Means and extremes of a constant are the constant; sums only of zero."""
    x, y = node.inputs[0], node.outputs[0]
    same = node.op in ("ReduceMean", "ReduceMax", "ReduceMin")
    if space.rank(x) != space.rank(y):
        return
    for own, other in zip(space.axes_of(x), space.axes_of(y), strict=True):
        if own.length == other.length > 1:
            held = emissions.values[own.slots]
            emissions.values[other.slots] = np.where(same | (held == 0), held, UNKNOWN)


def _recurrent(emissions: Emissions, space: Space, node: Node) -> None:
    """A unit stays zero if it starts there and nothing reaches the gate that fills it.

    That is gate c of an LSTM, h of a GRU (which needs linear_before_reset only for its bias) and
    the only one of an RNN with tanh or Relu. All gates are asked: it is what masks make zero.
    """
    gates = GATES[node.op]
    rows = [emissions.at(node.inputs[index], 1) == 0 for index in (1, 2)]
    if query.has_input(node, 3):
        rows.append(emissions.at(node.inputs[3], 1) == 0)
    size = len(rows[0]) // gates
    silent = np.ones(size, bool)
    for row in rows:
        silent &= row.reshape(-1, size).all(axis=0)
    for index in (5, 6):
        if query.has_input(node, index):
            silent &= emissions.at(node.inputs[index], -1) == 0
    if query.has_input(node, 7) or not _keeps_zero(node):
        silent[:] = False
    for tensor in node.outputs:
        if tensor.name:
            emissions.values[space.axis(tensor, -1)] = np.where(silent, 0.0, UNKNOWN)


def _keeps_zero(node: Node) -> bool:
    """Whether the functions behind the gates that fill a unit are zero at zero."""
    given = node.attrs.get("activations")
    if not isinstance(given, onnx.AttributeProto):
        return True
    names = [name.decode().lower() for name in given.strings]
    filling = {"LSTM": (1, 2), "GRU": (1,), "RNN": (0,)}[node.op]
    count = max(filling) + 1
    return all(
        name in ("tanh", "relu") for place, name in enumerate(names) if place % count in filling
    )


def _stretch(emissions: Emissions, space: Space, node: Node) -> None:
    ours, theirs = space.axes_of(node.inputs[0]), space.axes_of(node.outputs[0])
    for own, other in zip(reversed(ours), reversed(theirs), strict=False):
        if own.length == other.length:
            emissions.values[other.slots] = emissions.values[own.slots]


def _filled(emissions: Emissions, space: Space, node: Node) -> None:
    value = query.tensor_attribute(node, "value")
    for axis in space.axes_of(node.outputs[0]):
        emissions.values[axis.slots] = 0.0 if value is None else float(value.reshape(-1)[0])


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(["Conv", "ConvTranspose"], _conv),
    **dict.fromkeys(
        ["MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool", "LpPool", "Resize"], _pool
    ),
    **dict.fromkeys(
        ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"], _reduce
    ),
    **dict.fromkeys(GATES, _recurrent),
    **dict.fromkeys(["Expand", "Tile"], _stretch),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], _quantization),
    "BatchNormalization": _batchnorm,
    "ConstantOfShape": _filled,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "MatMul": _matmul,
}


def _uniform(values: np.ndarray, axis: int) -> np.ndarray:
    """float64 [length]: the number that each slice of an array consists of, or NaN."""
    if values.dtype.kind in "OSU":
        return np.full(values.shape[axis], UNKNOWN)
    if not values.size:
        return np.full(values.shape[axis], UNKNOWN)
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    first = rows[:, 0]
    same = (rows == first[:, None]).all(axis=1)
    return np.where(same, first.astype(np.float64), UNKNOWN)


def _pad_value(node: Node) -> float:
    if len(node.inputs) == 1:
        return node.float_attr("value", 0.0)
    if not query.has_input(node, 2):
        return 0.0
    stored = query.constant(node, 2)
    return UNKNOWN if stored is None else float(stored.values.reshape(-1)[0])
