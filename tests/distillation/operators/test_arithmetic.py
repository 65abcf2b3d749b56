import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def between(low, high, *shape):
    return RNG.uniform(low, high, shape).astype(np.float32)


def whole(dtype, *shape, low=-20, high=20):
    return RNG.integers(low, high, shape).astype(dtype)


UNARY = {
    "Abs": normal(3, 4),
    "Acos": between(-0.9, 0.9, 7),
    "Acosh": between(1.1, 4, 7),
    "Asin": between(-0.9, 0.9, 7),
    "Asinh": normal(7),
    "Atan": normal(7),
    "Atanh": between(-0.9, 0.9, 7),
    "Cos": normal(7),
    "Cosh": normal(7),
    "Erf": normal(7),
    "Exp": normal(7),
    "Log": between(0.1, 4, 7),
    "Neg": normal(2, 3),
    "Reciprocal": between(0.2, 4, 7),
    "Sin": normal(7),
    "Sinh": normal(7),
    "Sqrt": between(0.1, 4, 7),
    "Tan": between(-1, 1, 7),
}


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_one_number(op):
    check(op, [UNARY[op]])
    check(op, [UNARY[op][..., :0]])
    check_gradients(op, [UNARY[op]])


@pytest.mark.parametrize("op", ["Ceil", "Floor", "Round", "Sign"])
def test_steps(op):
    halves = np.arange(-7, 8, dtype=np.float32) / 2
    check(op, [halves], tolerance=0)
    check_gradients(op, [between(0.1, 0.4, 5)])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("opset", [7, 13, 21])
def test_two_tensors_broadcast(op, opset):
    a, b = normal(2, 1, 4), between(0.5, 2, 3, 1)
    check(op, [a, b], opset=opset)
    check(op, [a, np.array(2.5, np.float32)], opset=opset)
    check(op, [a[:0], b], opset=opset)
    check_gradients(op, [a, b], opset=opset)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int8])
def test_division_of_integers_cuts_the_fraction(dtype):
    low = 0 if dtype == np.uint8 else -20
    check("Div", [whole(dtype, 50, low=low), whole(dtype, 50, low=1, high=7)], tolerance=0)
    if low:
        check("Div", [whole(dtype, 50), -whole(dtype, 50, low=1, high=7)], tolerance=0)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_mod_of_integers(dtype):
    a, b = whole(dtype, 40), np.where(np.arange(40) % 2, 3, -4).astype(dtype)
    check("Mod", [a, b], tolerance=0)
    check("Mod", [a, b], tolerance=0, fmod=1)


def test_mod_of_floats():
    a, b = between(-5, 5, 20), np.where(np.arange(20) % 2, 1.3, -0.7).astype(np.float32)
    check("Mod", [a, b], fmod=1)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -1.0])
def test_pow_by_one_number(exponent):
    x = between(0.2, 3, 3, 4)
    check("Pow", [x, np.array(exponent, np.float32)])
    check("Pow", [x, np.array([exponent], np.float32)], opset=7)
    check_gradients("Pow", [x, np.array(exponent, np.float32)])


def test_pow_of_two_types():
    x = between(0.2, 3, 3, 4)
    check("Pow", [x, whole(np.int64, 4, low=0, high=4)], opset=15)
    check("Pow", [whole(np.int32, 3, 4, low=1), whole(np.int32, 4, low=0, high=4)], tolerance=0)
    check("Pow", [whole(np.int64, 3, 4, low=1), between(1, 2, 4)], tolerance=0)
    check("Pow", [x, np.array([[2.0]] * 3, np.float32)])
    check("Pow", [x[0], np.full((1, 1, 1), 2, np.float32)])
    check_gradients("Pow", [x, whole(np.int64, 4, low=0, high=4)])


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_tensors(op, count):
    inputs = [normal(2, 3), normal(3), normal(2, 1)][:count]
    check(op, inputs, opset=8)
    check(op, inputs, opset=13)
    check_gradients(op, inputs)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extremes_of_integers(op):
    check(op, [whole(np.int64, 9), whole(np.int64, 9)], tolerance=0)


def test_clip_reads_attributes_before_opset_11():
    x = normal(3, 5)
    check("Clip", [x], opset=7, min=-0.5, max=0.25)
    check("Clip", [x], opset=10, max=0.25)
    check("Clip", [x], opset=10)


def test_clip_reads_inputs_since_opset_11():
    x = normal(3, 5)
    low, high = np.array(-0.5, np.float32), np.array(0.25, np.float32)
    for opset in (11, 13):
        check("Clip", [x, low, high], opset=opset)
        check("Clip", [x, low], opset=opset)
        check("Clip", [x, None, high], opset=opset)
        check("Clip", [x], opset=opset)
    check("Clip", [x, high, low])  # the upper bound wins
    check_gradients("Clip", [x, low, high], wrt=[0])
    check_gradients("Clip", [x, low, high])
    whole_bounds = [np.array(each, np.int64) for each in (-5, 7)]
    check("Clip", [whole(np.int64, 30), *whole_bounds], tolerance=0)


def test_what_is_no_number():
    x = np.array([1, np.nan, np.inf, -np.inf, 0], np.float32)
    check("IsNaN", [x], tolerance=0)
    check("IsInf", [x], tolerance=0)
    check("IsInf", [x], tolerance=0, detect_negative=0)
    check("IsInf", [x], tolerance=0, detect_positive=0)
