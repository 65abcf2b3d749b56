"""Windows that slide over the spatial axes: what Conv and the pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call


@dataclass(frozen=True)
class Window:
    """A window and how it moves; each field has one entry per spatial axis.

    Attributes:
        kernel: how many positions it reads.
        strides: how far apart two windows start.
        dilations: how far apart two positions are.
        begins: positions added before the first.
        ends: positions added after the last.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """From the first position it reads to the last."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_symmetric(self) -> bool:
        """Whether as much is added before as after, and nothing is cut away."""
        return self.begins == self.ends and min(self.begins, default=0) >= 0

    def outputs(self, sizes: Sequence[int], ceil: bool) -> tuple[int, ...]:
        """How many windows there are along each axis.

        Args:
            sizes: lengths of the spatial axes.
            ceil: whether a last window may reach over the end, if it starts before it.
        """
        found = []
        for at, size in enumerate(sizes):
            room = size + self.begins[at] + self.ends[at] - self.extent[at]
            count = (-(-room // self.strides[at]) if ceil else room // self.strides[at]) + 1
            if ceil and (count - 1) * self.strides[at] >= size + self.begins[at]:
                count -= 1
            found.append(count)
        return tuple(found)

    def overhang(self, sizes: Sequence[int], outputs: Sequence[int]) -> tuple[int, ...]:
        """How far the last window reaches over the padded end; negative if it ends before it."""
        return tuple(
            (outputs[at] - 1) * self.strides[at]
            + self.extent[at]
            - (size + self.begins[at] + self.ends[at])
            for at, size in enumerate(sizes)
        )


def window_of(call: Call, kernel: Sequence[int], sizes: Sequence[int]) -> Window:
    """The window that a node's attributes describe, its automatic padding resolved.

    Args:
        call: has strides, dilations, pads and auto_pad.
        kernel: lengths of the window.
        sizes: lengths of the input's spatial axes.
    """
    rank = len(kernel)
    strides = call.integers("strides") or (1,) * rank
    dilations = call.integers("dilations") or (1,) * rank
    pads = call.integers("pads") or (0,) * 2 * rank
    auto = call.text("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = (0,) * 2 * rank
    elif auto.startswith("SAME"):
        totals = [
            max((-(-size // stride) - 1) * stride + dilation * (length - 1) + 1 - size, 0)
            for size, stride, dilation, length in zip(
                sizes, strides, dilations, kernel, strict=True
            )
        ]
        less = [total // 2 for total in totals]
        more = [total - half for total, half in zip(totals, less, strict=True)]
        pads = (*less, *more) if auto == "SAME_UPPER" else (*more, *less)
    return Window(tuple(kernel), strides, dilations, pads[:rank], pads[rank:])


def pad_spatial(
    x: torch.Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0
) -> torch.Tensor:
    """Adds positions around the last axes, or cuts them where the count is negative."""
    if not any(begins) and not any(ends):
        return x
    pairs = list(zip(begins, ends, strict=True))
    return functional.pad(x, [count for pair in reversed(pairs) for count in pair], value=value)
