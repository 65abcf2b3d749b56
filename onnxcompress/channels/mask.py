"""Masking: the parameters of units set to zero, shapes as they were."""

from __future__ import annotations

import numpy as np

from onnxcompress.channels.space import Space
from onnxcompress.ir import query
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.model import Constant


def mask(edit: Editor, space: Space, gone: np.ndarray) -> None:
    """Zeroes what the units to go store: weights before and behind them, and biases.

    Args:
        edit: records the change.
        space: of the model.
        gone: bool by slot.
    """
    for tensor in dict.fromkeys(each for each, _ in space.parameters):
        axes = [a for a in space.axes_of(tensor) if (tensor, a.axis) in space.parameters]
        if not any(gone[axis.slots].any() for axis in axes):
            continue
        old = tensor.values
        values, zero = old.copy(), _zeros(tensor)
        for axis in axes:
            dead = gone[axis.slots]
            np.moveaxis(values, axis.axis, 0)[dead] = np.moveaxis(zero, axis.axis, 0)[dead]
        if np.array_equal(values, old):
            continue
        masked = edit.constant(tensor.name, values)
        zeros = values.size - np.count_nonzero(values)
        for node in query.consumers(tensor):
            for place, each in enumerate(list(node.inputs)):
                if each is tensor:
                    edit.set_input(
                        node, place, masked, f"{tensor.name}: {zeros} of {values.size} are zero"
                    )


def _zeros(tensor: Constant) -> np.ndarray:
    """What stands for zero in each place of a tensor: its zero point, if it is quantized."""
    readers = query.consumers(tensor)
    zero: np.ndarray = np.zeros(1, tensor.dtype)
    if readers and readers[0].op == "DequantizeLinear" and readers[0].inputs[0] is tensor:
        stored = query.constant(readers[0], 2)
        if stored is not None:
            zero = stored.values
            if zero.size > 1:
                shape = [1] * len(tensor.shape)
                shape[readers[0].int_attr("axis", 1)] = zero.size
                zero = zero.reshape(shape)
    return np.broadcast_to(zero.reshape(zero.shape if zero.ndim > 1 else -1), tensor.shape)
