"""Convolutions.

Source: ONNX Conv, ConvTranspose (opset 22), ConvInteger (opset 10), Col2Im (opset 18).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table
from onnxcompress.distillation.operators.windows import Window, pad_spatial, window_of
from onnxcompress.distillation.values import integers

_CONV: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSED: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def convolve(
    call: Call, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None
) -> torch.Tensor:
    """What Conv computes, with the node's attributes.

    Args:
        call: of a node with Conv's attributes.
        x: [batch, channels, ...spatial].
        w: [filters, channels / group, ...kernel].
        b: [filters].
    """
    rank = x.dim() - 2
    if rank not in _CONV:
        raise call.unsupported(f"an input of {x.dim()} axes; 3 to 5 are supported")
    window = window_of(call, w.shape[2:], x.shape[2:])
    padding = window.begins
    if not window.is_symmetric:
        x = pad_spatial(x, window.begins, window.ends)
        padding = (0,) * rank
    return _CONV[rank](x, w, b, window.strides, padding, window.dilations, call.integer("group", 1))


def _conv_transpose(
    call: Call, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None
) -> torch.Tensor:
    rank = x.dim() - 2
    if rank not in _TRANSPOSED:
        raise call.unsupported(f"an input of {x.dim()} axes; 3 to 5 are supported")
    extra = call.integers("output_padding") or (0,) * rank
    window = _transposed_window(call, w.shape[2:], x.shape[2:], extra)
    transposed, groups = _TRANSPOSED[rank], call.integer("group", 1)
    reach = [max(pair) for pair in zip(window.strides, window.dilations, strict=True)]
    if window.is_symmetric and all(e < r for e, r in zip(extra, reach, strict=True)):
        return transposed(x, w, b, window.strides, window.begins, extra, groups, window.dilations)
    none = (0,) * rank
    whole = transposed(x, w, None, window.strides, none, none, groups, window.dilations)
    grown = [more - end for more, end in zip(extra, window.ends, strict=True)]
    y = pad_spatial(whole, [-begin for begin in window.begins], grown)
    return y if b is None else y + b.reshape(-1, *(1,) * rank)


def _transposed_window(
    call: Call, kernel: Sequence[int], sizes: Sequence[int], extra: Sequence[int]
) -> Window:
    """The window of a ConvTranspose, with the pads that give the wanted lengths."""
    rank = len(kernel)
    strides = call.integers("strides") or (1,) * rank
    dilations = call.integers("dilations") or (1,) * rank
    pads = call.integers("pads") or (0,) * 2 * rank
    auto = call.text("auto_pad", "NOTSET")
    wanted = call.integers("output_shape")[-rank:]
    if auto.startswith("SAME") and not wanted:
        wanted = tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    if wanted:
        totals = [
            (size - 1) * stride + more + dilation * (length - 1) + 1 - length_out
            for size, stride, more, dilation, length, length_out in zip(
                sizes, strides, extra, dilations, kernel, wanted, strict=True
            )
        ]
        cuts = [_shared_out(total, auto == "SAME_UPPER") for total in totals]
        pads = (*(begin for begin, _ in cuts), *(end for _, end in cuts))
    elif auto == "VALID":
        pads = (0,) * 2 * rank
    return Window(tuple(kernel), strides, dilations, pads[:rank], pads[rank:])


def _shared_out(total: int, more_at_end: bool) -> tuple[int, int]:
    """How many positions are cut before and after; what is missing is added after."""
    if total < 0:
        return 0, total
    half = total // 2
    return (half, total - half) if more_at_end else (total - half, half)


def _conv_integer(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    x_zero: torch.Tensor | None = None,
    w_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    floats = x.is_floating_point() or w.is_floating_point()
    exact = call.precision if floats else torch.float64  # holds every sum of 8-bit products
    x, w = x.to(exact), w.to(exact)
    if x_zero is not None:
        x = x - x_zero.to(exact)
    if w_zero is not None:
        w = w - w_zero.to(exact).reshape(-1, *(1,) * (w.dim() - 1))
    y = convolve(call, x, w)
    return y if floats else y.to(torch.int32)


def _col2im(
    call: Call, columns: torch.Tensor, image: torch.Tensor, block: torch.Tensor
) -> torch.Tensor:
    kernel, sizes = integers(block), integers(image)
    rank, taps = len(kernel), math.prod(kernel)
    if rank not in _TRANSPOSED:
        raise call.unsupported(f"{rank} spatial axes; 1 to 3 are supported")
    window = window_of(call, kernel, sizes)
    places = window.outputs(sizes, ceil=False)
    batch, channels = columns.shape[0], columns.shape[1] // taps
    spread = torch.eye(taps, dtype=columns.dtype).reshape(taps, 1, *kernel)
    whole = _TRANSPOSED[rank](
        columns.reshape(batch * channels, taps, *places),
        spread,
        stride=window.strides,
        dilation=window.dilations,
    )
    begins = [-begin for begin in window.begins]
    ends = [
        size + begin - length
        for size, begin, length in zip(sizes, window.begins, whole.shape[2:], strict=True)
    ]
    return pad_spatial(whole, begins, ends).reshape(batch, channels, *sizes)


TABLE: Table = {
    "Conv": convolve,
    "ConvTranspose": _conv_transpose,
    "ConvInteger": _conv_integer,
    "Col2Im": _col2im,
}
