"""Products of matrices.

Source: ONNX MatMul (opset 13), Gemm (opset 13), Einsum (opset 12), Det (opset 22), MatMulInteger
(opset 10).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from onnxcompress.distillation.call import Call, Table


def _matmul(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    del call
    return torch.matmul(a, b)


def _gemm(
    call: Call, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None
) -> torch.Tensor:
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    if call.integer("transA", 0):
        a = a.t()
    trans_b = call.integer("transB", 0)
    if trans_b and alpha == beta == 1.0 and (c is None or c.dim() == 1 < c.numel()):
        return functional.linear(a, b, c)
    if trans_b:
        b = b.t()
    if c is None or beta == 0.0:
        product = torch.mm(a, b)
        return product if alpha == 1.0 else product * _like(alpha, a)
    return torch.addmm(c, a, b, beta=_like(beta, a), alpha=_like(alpha, a))


def _like(factor: float, x: torch.Tensor) -> float:
    """A factor that does not change the type of an integer tensor."""
    return factor if x.is_floating_point() else int(factor)


def _einsum(call: Call, *inputs: torch.Tensor) -> torch.Tensor:
    return torch.einsum(call.text("equation", "").replace(" ", ""), *inputs)


def _det(call: Call, x: torch.Tensor) -> torch.Tensor:
    del call
    determinant: torch.Tensor = torch.linalg.det(x)
    return determinant


def _matmul_integer(
    call: Call,
    a: torch.Tensor,
    b: torch.Tensor,
    a_zero: torch.Tensor | None = None,
    b_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    floats = a.is_floating_point() or b.is_floating_point()
    exact = call.precision if floats else torch.float64  # holds every sum of 8-bit products
    a, b = a.to(exact), b.to(exact)
    if a_zero is not None:
        a_zero = a_zero.to(exact)
        a = a - (a_zero.unsqueeze(-1) if a_zero.dim() == 1 < a_zero.numel() else a_zero)
    if b_zero is not None:
        b = b - b_zero.to(exact)
    product = torch.matmul(a, b)
    return product if floats else product.to(torch.int32)


TABLE: Table = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Det": _det,
    "MatMulInteger": _matmul_integer,
}
