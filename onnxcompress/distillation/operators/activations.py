"""Activations, element by element or over an axis, and Dropout as inference runs it.

Source: ONNX Relu, HardSigmoid, Gelu, Softmax, Dropout and their kin (opsets 7 to 25).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Operator, Table
from onnxcompress.distillation.operators.arithmetic import unary

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875
_EXACT_SOFTPLUS = 40.0
"""Above it log(1 + exp(x)) is x even in float64."""


def _leaky_relu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(x, call.real("alpha", 0.01))


def _prelu(call: Call, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    del call
    return torch.where(x < 0, x * slope, x)


def _elu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return functional.elu(x, call.real("alpha", 1.0))


def _selu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return call.real("gamma", _SELU_GAMMA) * functional.elu(x, call.real("alpha", _SELU_ALPHA))


def _celu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return functional.celu(x, call.real("alpha", 1.0))


def _thresholded_relu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > call.real("alpha", 1.0), x, torch.zeros_like(x))


def _hard_sigmoid(call: Call, x: torch.Tensor) -> torch.Tensor:
    return functional.hardtanh(x * call.real("alpha", 0.2) + call.real("beta", 0.5), 0, 1)


def _softplus(x: torch.Tensor) -> torch.Tensor:
    return functional.softplus(x, threshold=_EXACT_SOFTPLUS)


def _gelu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate=call.text("approximate", "none"))


def _swish(call: Call, x: torch.Tensor) -> torch.Tensor:
    alpha = call.real("alpha", 1.0)
    return functional.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


def _shrink(call: Call, x: torch.Tensor) -> torch.Tensor:
    bias, limit = call.real("bias", 0.0), call.real("lambd", 0.5)
    above = torch.where(x > limit, x - bias, torch.zeros_like(x))
    return torch.where(x < -limit, x + bias, above).to(x.dtype)


def _hardmax_along(x: torch.Tensor, axis: int) -> torch.Tensor:
    largest = torch.argmax(x, axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, largest, torch.ones_like(largest, dtype=x.dtype))


def _along(function: Callable[[torch.Tensor, int], torch.Tensor]) -> Operator:
    """An operator over one axis; before opset 13 over that axis and all behind it at once."""

    def operator(call: Call, x: torch.Tensor) -> torch.Tensor:
        if call.opset >= 13:
            return function(x, call.integer("axis", -1))
        axis = call.integer("axis", 1) % max(x.dim(), 1)
        if axis == x.dim() - 1:
            return function(x, axis)
        rows = x.shape[:axis].numel()
        return function(x.reshape(rows, -1), 1).reshape(x.shape)

    return operator


def _dropout(
    call: Call,
    x: torch.Tensor,
    ratio: torch.Tensor | None = None,
    training: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    # Before opset 12 onnxruntime leaves the mask all zero when it drops nothing.
    dtype = torch.bool if call.opset >= 10 else x.dtype
    kept = torch.full_like(x, call.opset >= 12, dtype=dtype)
    if training is not None and bool(training) and (ratio is None or bool(ratio != 0)):
        raise call.unsupported("training_mode draws random numbers")
    return x, kept


TABLE: Table = {
    "Celu": _celu,
    "Dropout": _dropout,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": unary(functional.hardswish),
    "Hardmax": _along(_hardmax_along),
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _along(lambda x, axis: torch.log_softmax(x, axis)),
    "Mish": unary(functional.mish),
    "PRelu": _prelu,
    "Relu": unary(torch.relu),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": unary(torch.sigmoid),
    "Softmax": _along(lambda x, axis: torch.softmax(x, axis)),
    "Softplus": unary(_softplus),
    "Softsign": unary(functional.softsign),
    "Swish": _swish,
    "Tanh": unary(torch.tanh),
    "ThresholdedRelu": _thresholded_relu,
}
