import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(1)
TRUTHS = [RNG.random((2, 4)) < 0.5, RNG.random(4) < 0.5]


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_truth_values(op):
    check(op, TRUTHS, tolerance=0)
    check(op, TRUTHS, tolerance=0, opset=7)


def test_not():
    check("Not", TRUTHS[:1], tolerance=0)


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_comparisons(op, dtype):
    a, b = (RNG.integers(-2, 3, shape).astype(dtype) for shape in ((3, 5), (5,)))
    check(op, [a, b], tolerance=0)
    check(op, [a, b], tolerance=0, opset=12)


def test_equal_truth_values():
    check("Equal", TRUTHS, tolerance=0)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_where(dtype):
    a, b = (RNG.integers(0, 3, shape).astype(dtype) for shape in ((3, 1), (3, 5)))
    check("Where", [RNG.random(5) < 0.5, a, b], tolerance=0)


def test_where_passes_gradients_to_what_was_chosen():
    a, b = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, 1), (3, 5)))
    check_gradients("Where", [RNG.random(5) < 0.5, a, b])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bit_shift(dtype, direction):
    x = RNG.integers(0, 2**7, 8).astype(dtype)
    by = np.arange(8).astype(dtype)
    check("BitShift", [x, by], tolerance=0, direction=direction)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.uint32, np.int64])
@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"])
def test_bits(op, dtype):
    inputs = [RNG.integers(0, 2**7, shape).astype(dtype) for shape in ((3, 5), (5,))]
    check(op, inputs[: 1 if op == "BitwiseNot" else 2], tolerance=0)
