"""How operators with weights tie what they read and write.

Source: ONNX Conv (opset 1-22), ConvTranspose (1-22), Gemm (7-13), MatMul (1-13), Einsum (12),
BatchNormalization (9-15), InstanceNormalization (6-22), GroupNormalization (18-21), LSTM, GRU and
RNN (7-22).
"""

from __future__ import annotations

import numpy as np

from onnxcompress.channels.pointwise import is_uniform, tie_aligned
from onnxcompress.channels.space import Space
from onnxcompress.ir import query
from onnxcompress.ir.model import Node, Tensor

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""How many gates a recurrent operator has."""


def tie_conv(space: Space, node: Node) -> None:
    """Conv: [N, C, ...] with [O, C / group, ...]; within groups the same channels of all go."""
    x, weight = node.inputs[:2]
    y = node.outputs[0]
    _fix_positions(space, node, x, weight, y)
    group = node.int_attr("group", 1)
    channels, inner = space.axis(x, 1), space.axis(weight, 1)
    outputs = space.axis(weight, 0)
    flat = not any(node.ints_attr("pads")) and node.text_attr("auto_pad", "NOTSET") == "NOTSET"
    if len(inner) == 1 and group > 1:  # depthwise: a filter goes with the channel it reads
        space.tie(np.repeat(channels, len(outputs) // group), outputs)
    else:
        space.multiply(node, channels, np.tile(inner, group), flat=flat)
        _tie_groups(space, outputs, group)
    space.tie(outputs, space.axis(y, 1))
    _weigh_channels(space, weight)
    _tie_bias(space, node, outputs)


def tie_conv_transpose(space: Space, node: Node) -> None:
    """ConvTranspose: [N, C, ...] with [C, O / group, ...]."""
    x, weight = node.inputs[:2]
    y = node.outputs[0]
    _fix_positions(space, node, x, weight, y)
    group = node.int_attr("group", 1)
    channels, inputs = space.axis(x, 1), space.axis(weight, 0)
    outer, outputs = space.axis(weight, 1), space.axis(y, 1)
    if group > 1 and len(channels) == group:
        space.tie(channels, inputs)
        space.tie(np.repeat(channels, len(outer)), outputs)
        space.fix(outer if len(outer) > 1 else outer[:0], _several(node))
    else:
        # A border takes only a part of the kernel in, whatever the pads are.
        space.multiply(node, channels, inputs, flat=False)
        _tie_groups(space, channels, group)
        space.tie(np.tile(outer, group), outputs)
    _weigh_channels(space, weight)
    _tie_bias(space, node, outputs)


def tie_gemm(space: Space, node: Node) -> None:
    """Gemm: [M, K] with [K, N], either possibly transposed, and a bias that is broadcast."""
    a, b = node.inputs[:2]
    y = node.outputs[0]
    rows, inner = (1, 0) if node.int_attr("transA", 0) else (0, 1)
    outer, columns = (1, 0) if node.int_attr("transB", 0) else (0, 1)
    space.tie(space.axis(a, rows), space.axis(y, 0))
    space.tie(space.axis(b, columns), space.axis(y, 1))
    space.multiply(node, space.axis(a, inner), space.axis(b, outer))
    for axis in (0, 1):
        space.weigh(b, axis)
    if query.has_input(node, 2):
        bias = node.inputs[2]
        tie_aligned(space, bias, y)
        for own in space.axes_of(bias):
            if own.length > 1:
                space.weigh(bias, own.axis)


def tie_matmul(space: Space, node: Node) -> None:
    """MatMul: [..., M, K] with [..., K, N]; the axes before are broadcast."""
    a, b = node.inputs[:2]
    y = node.outputs[0]
    inner = -2 if space.rank(b) > 1 else -1
    space.multiply(node, space.axis(a, -1), space.axis(b, inner))
    after = list(space.axes_of(y))
    if space.rank(b) > 1:
        space.tie(space.axis(b, -1), after.pop().slots)
    if space.rank(a) > 1:
        space.tie(space.axis(a, -2), after.pop().slots)
    for factor in (a, b):
        for own, other in zip(reversed(space.axes_of(factor)[:-2]), reversed(after), strict=False):
            if own.length == other.length:
                space.tie(own.slots, other.slots)
        if space.is_stored(factor):
            for own in space.axes_of(factor):
                space.weigh(factor, own.axis)


def tie_einsum(space: Space, node: Node) -> None:
    """Einsum of two tensors: axes of one letter go together, those not in the result are summed."""
    letters = einsum_letters(space, node)
    if letters is None:
        space.fix_all(
            node, f"Einsum {node.name!r} is no product of two tensors, or repeats an axis"
        )
        return
    first, second, result = letters
    a, b = node.inputs
    for tensor, own in ((a, first), (b, second)):
        for axis, letter in enumerate(own):
            slots = space.axis(tensor, axis)
            if letter in result:
                written = space.axis(node.outputs[0], result.index(letter))
                if len(written) == len(slots):  # else it is 1 and broadcast
                    space.tie(slots, written)
            elif letter not in first or letter not in second:
                space.fix(slots, f"Einsum {node.name!r} sums over it")
            if space.is_stored(tensor):
                space.weigh(tensor, axis)
    for letter in set(first) & set(second) - set(result):
        pair = space.axis(a, first.index(letter)), space.axis(b, second.index(letter))
        if len(pair[0]) == len(pair[1]):
            space.multiply(node, *pair)
        else:
            for slots in pair:
                space.fix(slots, f"Einsum {node.name!r} broadcasts it")


def einsum_letters(space: Space, node: Node) -> tuple[str, str, str] | None:
    """The letters of both inputs and of the result; None if it is not as plain as that."""
    equation = node.text_attr("equation", "").replace(" ", "")
    inputs, arrow, result = equation.partition("->")
    first, comma, second = inputs.partition(",")
    parts = first, second, result
    plain = all(len(set(part)) == len(part) and "." not in part for part in parts)
    tensors = [*node.inputs, *node.outputs]
    if not (arrow and comma and plain and "," not in second and len(tensors) == 3):
        return None
    fits = all(space.rank(t) == len(part) for t, part in zip(tensors, parts, strict=True))
    return parts if fits else None


def tie_batchnorm(space: Space, node: Node) -> None:
    """BatchNormalization: four numbers for each channel; before opset 9 possibly for each place."""
    x, y = node.inputs[0], node.outputs[0]
    if not node.int_attr("spatial", 1):
        space.fix_all(node, f"{node.op} {node.name!r} has numbers of its own for each place")
        return
    tie_aligned(space, x, y)
    for vector in [
        *list(node.inputs)[1:5],
        *(each for each in list(node.outputs)[1:] if each.name),
    ]:
        space.tie(space.axis(x, 1), space.axis(vector, 0))
    for vector in list(node.inputs)[1:3]:
        space.weigh(vector, 0)
    for axis in space.axes_of(x) if takes_statistics(node) else ():
        if axis.axis != 1:
            space.fix(axis.slots, f"{node.op} {node.name!r} takes statistics over it")


def takes_statistics(node: Node) -> bool:
    """Whether a BatchNormalization is trained: before opset 14 if it has more than one output.

    A network that standardizes its weights as it runs has such nodes.
    """
    several = any(each.name for each in list(node.outputs)[1:])
    return several or bool(node.int_attr("training_mode", 0))


def tie_instance_norm(space: Space, node: Node) -> None:
    """InstanceNormalization: statistics of each channel by itself.

    A group normalization that was taken apart has a scale of ones and a bias of zeros, which
    exporters share between nodes that have nothing else in common.
    """
    x, y = node.inputs[0], node.outputs[0]
    tie_aligned(space, x, y)
    for vector in list(node.inputs)[1:3]:
        readers = query.consumers(vector)
        if is_uniform(vector) and len(readers) > 1 and {each.op for each in readers} == {node.op}:
            continue
        space.tie(space.axis(x, 1), space.axis(vector, 0))
        space.weigh(vector, 0)
    for axis in space.axes_of(x)[2:]:
        space.fix(axis.slots, f"{node.name!r} takes statistics over it")


def tie_group_norm(space: Space, node: Node) -> None:
    """GroupNormalization: statistics of each group, so that only whole groups can go.

    Scale and bias hold a number for each channel, or for each group before opset 21.
    """
    x, y = node.inputs[0], node.outputs[0]
    tie_aligned(space, x, y)
    channels = space.axis(x, 1).reshape(node.int_attr("num_groups", 1), -1)
    space.tie(np.repeat(channels[:, 0], channels.shape[1]), channels)
    for vector in list(node.inputs)[1:3]:
        numbers = space.axis(vector, 0)
        space.tie(channels if len(numbers) == channels.size else channels[:, 0], numbers)
        space.weigh(vector, 0)
    for axis in space.axes_of(x)[2:]:
        space.fix(axis.slots, f"{node.name!r} takes statistics over it")


def tie_recurrent(space: Space, node: Node) -> None:
    """LSTM, GRU, RNN: a unit is a row of each gate, and what all gates read of it.

    Inputs X, W [directions, gates * H, I], R [directions, gates * H, H], B, lengths, states, P;
    outputs Y [S, directions, B, H] and states. Both directions lose the same units.
    """
    gates = GATES[node.op]
    x, weight, recurrence = node.inputs[:3]
    units = space.axis(recurrence, 2)
    space.multiply(node, space.axis(x, 2), space.axis(weight, 2))
    written = [each for each in node.outputs if each.name]
    space.multiply(node, space.axis(written[0], -1), units)
    tied: list[tuple[Tensor, int]] = [(weight, gates), (recurrence, gates)]
    tied += [(node.inputs[3], 2 * gates)] if query.has_input(node, 3) else []
    tied += [(node.inputs[7], 3)] if query.has_input(node, 7) else []
    for tensor, times in tied:
        space.tie(np.tile(units, times), space.axis(tensor, 1))
        space.weigh(tensor, 1)
    space.weigh(weight, 2)
    space.weigh(recurrence, 2)
    states = [node.inputs[index] for index in (5, 6) if query.has_input(node, index)]
    for tensor in [*states, *written]:
        space.tie(units, space.axis(tensor, -1))
    whole = f"{node.name!r} runs over it"
    for tensor in [x, *written, *states]:
        for axis in space.axes_of(tensor)[:-1]:
            space.fix(axis.slots, whole)
    for tensor in (weight, recurrence, *(each for each, _ in tied[2:])):
        space.fix(space.axis(tensor, 0), f"{node.name!r} has it for its directions")


def _fix_positions(space: Space, node: Node, *tensors: Tensor) -> None:
    for tensor in tensors:
        for axis in space.axes_of(tensor)[2:]:
            space.fix(axis.slots, f"{node.name!r} slides over it")
    space.tie(space.axis(tensors[0], 0), space.axis(tensors[-1], 0))


def _tie_groups(space: Space, channels: np.ndarray, group: int) -> None:
    """Every group must keep as many: the same channel of all groups goes."""
    parts = channels.reshape(group, -1)
    for part in parts[1:]:
        space.tie(parts[0], part)


def _weigh_channels(space: Space, weight: Tensor) -> None:
    for axis in (0, 1):
        space.weigh(weight, axis)
    for own in space.axes_of(weight)[2:]:
        space.disregard(weight, own.axis)


def _tie_bias(space: Space, node: Node, outputs: np.ndarray) -> None:
    if query.has_input(node, 2):
        space.tie(outputs, space.axis(node.inputs[2], 0))
        space.weigh(node.inputs[2], 0)


def _several(node: Node) -> str:
    return f"{node.name!r} makes several channels of one"
