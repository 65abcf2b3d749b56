"""Which weights share a number: how a weight is laid out so that each group lines up with one.

Source: the per-tensor, per-channel and per-block scales of ONNX DequantizeLinear (opset 21), except
that a block runs along everything that one output channel sums over, not along one axis: the
kernel of a depthwise convolution has an axis of length 1 there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from onnxcompress.quantization.granularity import Granularity, PerBlock, PerChannel, PerTensor


class Grouping(Enum):
    """What shares a number, by the names recipes use."""

    PER_TENSOR = "per-tensor"
    PER_CHANNEL = "per-channel"
    PER_BLOCK = "per-block"


@dataclass(frozen=True)
class Groups:
    """The shapes that take a weight to its groups and back.

    Attributes:
        shape: of the weight itself.
        view: the weight reshaped, the axis that blocks run along at index 1; `shape` if there are
            no blocks.
        padded: `view` with that axis filled up to whole blocks.
        split: `padded` with that axis divided into [blocks, block size].
        numbers: the shape of one number a group; broadcasts with `split`.
    """

    shape: tuple[int, ...]
    view: tuple[int, ...]
    padded: tuple[int, ...]
    split: tuple[int, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], axis: int, grouping: Grouping, block_size: int) -> Groups:
        """The groups of a weight.

        Args:
            shape: of the weight; a vector is one group.
            axis: along which output channels lie.
            grouping: what shares a number.
            block_size: weights in a block; the last of a channel may be shorter.
        """
        if grouping is Grouping.PER_TENSOR or len(shape) < 2:
            return cls(shape, shape, shape, shape, (1,) * len(shape))
        axis %= len(shape)
        if grouping is Grouping.PER_CHANNEL:
            numbers = tuple(length if a == axis else 1 for a, length in enumerate(shape))
            return cls(shape, shape, shape, shape, numbers)
        if axis == 0:  # [out, ...]: a channel sums over all that follows
            outer, along, inner = shape[0], math.prod(shape[1:]), 1
        else:  # [..., in, out, ...]: over the axis before
            outer, along = math.prod(shape[: axis - 1]), shape[axis - 1]
            inner = math.prod(shape[axis:])
        blocks = -(-along // block_size)
        return cls(
            shape,
            (outer, along, inner),
            (outer, blocks * block_size, inner),
            (outer, blocks, block_size, inner),
            (outer, blocks, 1, inner),
        )

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes of `split` along which a group extends."""
        return tuple(axis for axis, length in enumerate(self.numbers) if length == 1)

    @cached_property
    def held(self) -> np.ndarray:
        """bool, broadcasts with `split`: False where only padding lies."""
        if self.padded == self.view:
            return np.ones((1,) * len(self.split), np.bool_)
        _, blocks, block_size, _ = self.split
        return (np.arange(blocks * block_size) < self.view[1]).reshape(1, blocks, block_size, 1)

    def divide(self, values: np.ndarray) -> np.ndarray:
        """A weight (`shape`) as float64 [`split`], zeros in the padding."""
        laid = values.astype(np.float64).reshape(self.view)
        if self.padded != self.view:
            gap = self.padded[1] - self.view[1]
            laid = np.pad(laid, [(0, 0), (0, gap), (0, 0)])
        return laid.reshape(self.split)

    def join(self, divided: np.ndarray) -> np.ndarray:
        """The weight (`shape`) that [`split`] values of any dtype stand for."""
        if self.padded == self.view:
            return divided.reshape(self.shape)
        return divided.reshape(self.padded)[:, : self.view[1]].reshape(self.shape)

    def mean(self, values: np.ndarray, where: np.ndarray | np.bool) -> np.ndarray:
        """The mean of each group over the places named, 0 if there are none.

        Args:
            values: float64 [`split`].
            where: bool, broadcasts with `split`.

        Returns:
            float32 [`numbers`].
        """
        where = np.broadcast_to(where & self.held, self.split)
        count = where.sum(axis=self.axes, keepdims=True)
        total = np.sum(values, axis=self.axes, keepdims=True, where=where)
        means: np.ndarray = (total / np.maximum(count, 1)).astype(np.float32)
        return means


def groups_of(shape: tuple[int, ...], granularity: Granularity) -> Groups:
    """The groups of scales as DequantizeLinear has them: a block runs along one axis alone.

    Scales and zero points of that granularity, reshaped to `numbers`, broadcast with `split`.
    """
    match granularity:
        case PerTensor():
            return Groups(shape, shape, shape, shape, (1,) * len(shape))
        case PerChannel(axis):
            numbers = [n if a == axis % len(shape) else 1 for a, n in enumerate(shape)]
            return Groups(shape, shape, shape, shape, tuple(numbers))
        case PerBlock(axis, block_size):
            outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
            blocks = -(-shape[axis] // block_size)
            return Groups(
                shape,
                (outer, shape[axis], inner),
                (outer, blocks * block_size, inner),
                (outer, blocks, block_size, inner),
                (outer, blocks, 1, inner),
            )
