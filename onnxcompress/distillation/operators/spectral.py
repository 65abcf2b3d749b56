"""Fourier transforms, and the filters that follow them.

Source: ONNX DFT (opsets 17, 20), STFT, MelWeightMatrix (opset 17).
"""

from __future__ import annotations

import onnx
import torch

from onnxcompress.distillation.call import Call, Table


def _transformed(
    x: torch.Tensor, length: int | None, axis: int, *, inverse: bool, onesided: bool
) -> torch.Tensor:
    """A Fourier transform of numbers whose last axis holds one real part or both parts.

    Args:
        x: [..., 1] or [..., 2], float.
        length: cuts or fills with zeros what is transformed; None leaves it.
        axis: which one, counted from the front.
        inverse: from frequencies back.
        onesided: only the first half, as the rest mirrors it; with `inverse`, only that is given
            and real numbers come back.

    Returns:
        Both parts in the last axis; one if real numbers come back.
    """
    if inverse and onesided:
        signal = torch.complex(x[..., 0], x[..., 1])
        real: torch.Tensor = torch.fft.irfft(signal, length, axis)
        return real.unsqueeze(-1)
    if onesided:
        return torch.view_as_real(torch.fft.rfft(x[..., 0], length, axis))
    signal = torch.complex(
        x[..., 0], x[..., 1] if x.shape[-1] == 2 else torch.zeros_like(x[..., 0])
    )
    transform = torch.fft.ifft if inverse else torch.fft.fft
    return torch.view_as_real(transform(signal, length, axis))


def _dft(
    call: Call,
    x: torch.Tensor,
    length: torch.Tensor | None = None,
    axis_tensor: torch.Tensor | None = None,
) -> torch.Tensor:
    if call.opset < 20:
        axis = call.integer("axis", 1)
    else:
        axis = -2 if axis_tensor is None else int(axis_tensor)
    return _transformed(
        x,
        None if length is None else int(length),
        axis % x.dim(),
        inverse=bool(call.integer("inverse", 0)),
        onesided=bool(call.integer("onesided", 0)),
    )


def _stft(
    call: Call,
    signal: torch.Tensor,
    step: torch.Tensor,
    window: torch.Tensor | None = None,
    length: torch.Tensor | None = None,
) -> torch.Tensor:
    signal = signal if signal.dim() == 3 else signal.unsqueeze(-1)
    size = len(window) if window is not None and length is None else None
    if size is None:
        if length is None:
            raise call.unsupported("neither a window nor a frame length is given")
        size = int(length)
    frames = signal.unfold(1, size, int(step)).movedim(-1, 2)
    if window is not None:
        frames = frames * window.reshape(-1, 1)
    onesided = bool(call.integer("onesided", 1)) and signal.shape[-1] == 1
    return _transformed(frames, None, 2, inverse=False, onesided=onesided)


def _mel_weight_matrix(
    call: Call,
    bins: torch.Tensor,
    length: torch.Tensor,
    rate: torch.Tensor,
    lowest: torch.Tensor,
    highest: torch.Tensor,
) -> torch.Tensor:
    count, columns = int(bins), int(length) // 2 + 1
    limits = torch.stack([lowest.double().reshape(()), highest.double().reshape(())])
    low, high = (2595 * torch.log10(1 + limits / 700)).tolist()
    mels = low + torch.arange(count + 2, dtype=torch.float64) * (high - low) / (count + 2)
    edges = (int(length) + 1) * (700 * (10 ** (mels / 2595) - 1)) / int(rate)
    edges = edges.floor()
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    at = torch.arange(columns, dtype=torch.float64).unsqueeze(1)
    rising = torch.where(middle > left, (at - left) / (middle - left), 1.0)
    falling = torch.where(right > middle, (right - at) / (right - middle), 0.0)
    weights = torch.where(at <= middle, rising, falling)
    inside = (at >= left) & ((at < right) | (at == middle))
    dtype = call.type("output_datatype", onnx.TensorProto.FLOAT)
    return torch.where(inside, weights, 0.0).to(dtype)


TABLE: Table = {"DFT": _dft, "MelWeightMatrix": _mel_weight_matrix, "STFT": _stft}
