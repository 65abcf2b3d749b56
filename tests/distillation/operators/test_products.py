import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (4, 5)),
        ((2, 3, 4), (4,)),
        ((4,), (4,)),
    ],
)
def test_matmul(a, b):
    check("MatMul", [normal(*a), normal(*b)])
    check_gradients("MatMul", [normal(*a), normal(*b)], opset=9)


def test_matmul_of_integers():
    a, b = (RNG.integers(-(2**20), 2**20, shape) for shape in ((3, 4), (4, 5)))
    check("MatMul", [a, b], tolerance=0)
    check("MatMul", [a.astype(np.int32), b.astype(np.int32)], tolerance=0)


GEMMS = [
    {},
    {"transB": 1},
    {"transA": 1},
    {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0},
    {"alpha": 0.25, "beta": 0.0},
]


@pytest.mark.parametrize("attributes", GEMMS)
@pytest.mark.parametrize("c", [None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)])
def test_gemm(attributes, c):
    a = normal(4, 3) if attributes.get("transA") else normal(3, 4)
    b = normal(5, 4) if attributes.get("transB") else normal(4, 5)
    inputs = [a, b] if c is None else [a, b, normal(*c)]
    check("Gemm", inputs, opset=11, **attributes)
    check_gradients("Gemm", inputs, **attributes)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("bhid, bhjd -> bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("...ij,...jk", [(2, 3, 4), (2, 4, 5)]),
        ("ii->i", [(4, 4)]),
        ("ij->", [(3, 4)]),
        ("i,j,k->ijk", [(2,), (3,), (4,)]),
    ],
)
def test_einsum(equation, shapes):
    inputs = [normal(*shape) for shape in shapes]
    check("Einsum", inputs, equation=equation)
    check_gradients("Einsum", inputs, equation=equation)


def test_det():
    check("Det", [normal(2, 3, 3)])
    check("Det", [normal(4, 4)])
    check_gradients("Det", [normal(2, 3, 3)])


def test_matmul_integer_is_exact():
    a = RNG.integers(0, 256, (2, 3, 700)).astype(np.uint8)
    b = RNG.integers(-128, 128, (700, 5)).astype(np.int8)
    a_zero, b_zero = np.array(121, np.uint8), RNG.integers(-9, 9, 5).astype(np.int8)
    check("MatMulInteger", [a, b], tolerance=0)
    check("MatMulInteger", [a, b, a_zero, b_zero], tolerance=0)
    check("MatMulInteger", [a, b, None, np.array(3, np.int8)], tolerance=0)
