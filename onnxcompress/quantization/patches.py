"""What a convolution multiplies its weight with, as the rows of a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_SEED = 0


@dataclass(frozen=True)
class Window:
    """How a convolution looks at its input; each tuple has one number a spatial axis.

    Attributes:
        kernel: extent of the weight.
        strides: steps between outputs.
        dilations: steps between the elements of the weight.
        begins: zeros put before the input; `ends` likewise behind it.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]


def chosen_positions(count: int, most: int) -> np.ndarray:
    """Which of `count` output positions are taken: int64 in rising order, `most` at most.

    A seeded choice that is the same for every call.
    """
    if count <= most:
        return np.arange(count)
    # Evenly spaced ones would see the same columns of every picture.
    return np.sort(np.random.default_rng(_SEED).permutation(count)[:most])


def patches(values: np.ndarray, window: Window, groups: int, most: int) -> np.ndarray:
    """The inputs of each output position of a convolution (ONNX Conv, opset 1-22).

    Args:
        values: float [n, channels, *spatial].
        window: the convolution's.
        groups: the convolution's; must divide the channels.
        most: positions taken of each sample, see `chosen_positions`.

    Returns:
        [groups, n * positions, channels / groups * kernel]: features in the order of the weight.
    """
    samples, channels = values.shape[:2]
    around = [(0, 0), (0, 0), *zip(window.begins, window.ends, strict=True)]
    axes = tuple(range(2, values.ndim))
    spans = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    views = sliding_window_view(np.pad(values, around), spans, axis=axes)
    whole = (slice(None), slice(None))
    steps = (*window.strides, *window.dilations)
    views = views[(*whole, *(slice(None, None, step) for step in steps))]
    extent = views.shape[2 : values.ndim]
    taken = chosen_positions(math.prod(extent), most)
    at: tuple[slice | np.ndarray, ...] = (*whole, *np.unravel_index(taken, extent))
    rows = views[at]
    rows = rows.reshape(samples, groups, channels // groups, len(taken), -1)
    rows = rows.transpose(1, 0, 3, 2, 4)
    return rows.reshape(groups, samples * len(taken), -1)
