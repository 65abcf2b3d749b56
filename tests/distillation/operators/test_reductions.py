import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(3)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)
POSITIVE = np.abs(X) + 0.1

REDUCTIONS = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]
AXES = [[0], [1, 2], [-1], [0, -1], [0, 1, 2]]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keep", [0, 1])
def test_axes_as_an_attribute(op, keep):
    for axes in AXES:
        check(op, [POSITIVE], opset=11, axes=axes, keepdims=keep)
    check(op, [POSITIVE], opset=11, keepdims=keep)
    check(op, [POSITIVE], opset=11)


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("keep", [0, 1])
def test_axes_as_an_input(op, keep):
    for axes in AXES:
        check(op, [POSITIVE, np.array(axes)], opset=18, keepdims=keep)
    check(op, [POSITIVE], opset=18, keepdims=keep)
    check(op, [POSITIVE, np.array([], np.int64)], opset=18, keepdims=keep)
    check_gradients(op, [POSITIVE, np.array([0, 2])], keepdims=keep)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_no_axes_may_mean_none(op):
    alone = {
        "ReduceL1": np.abs(X),
        "ReduceL2": np.abs(X),
        "ReduceLogSum": np.log(POSITIVE),
        "ReduceSumSquare": X * X,
    }
    x = POSITIVE if op == "ReduceLogSum" else X
    none = np.array([], np.int64)
    check(op, [x, none], expected=[alone.get(op, x)], noop_with_empty_axes=1)
    check(op, [x], expected=[alone.get(op, x)], noop_with_empty_axes=1)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceProd"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers(op, dtype):
    x = RNG.integers(-9, 9, (3, 4)).astype(dtype)
    check(op, [x, np.array([1])], tolerance=0, opset=18)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceSum", "ReduceLogSumExp", "ReduceProd"])
def test_nothing_to_reduce(op):
    check(op, [np.zeros((2, 0, 3), np.float32), np.array([1])], opset=18)


def test_extremes_of_nothing():
    empty, axis = np.zeros((2, 0, 3), np.float32), np.array([1])
    check("ReduceMax", [empty, axis], opset=18, expected=[np.full((2, 1, 3), -np.inf, np.float32)])
    check("ReduceMin", [empty, axis], opset=18, expected=[np.full((2, 1, 3), np.inf, np.float32)])


def test_a_single_number():
    for op in REDUCTIONS:
        check(op, [np.array(2.5, np.float32)], opset=18)


def test_the_norm_of_zeros_has_a_gradient():
    check_gradients("ReduceSumSquare", [np.zeros((2, 3), np.float32)])


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("attributes", [{}, {"axis": 1, "keepdims": 0}, {"axis": -1}])
def test_positions(op, attributes):
    ties = RNG.integers(0, 3, (3, 4, 5)).astype(np.float32)
    check(op, [ties], tolerance=0, opset=11, **attributes)
    check(op, [ties], tolerance=0, select_last_index=1, **attributes)
    check(op, [ties.astype(np.int32)], tolerance=0, **attributes)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_running_sums(exclusive, reverse, axis):
    rest = {"exclusive": exclusive, "reverse": reverse}
    check("CumSum", [X, np.array(axis)], **rest)
    check("CumSum", [RNG.integers(-9, 9, (3, 4)), np.array(axis)], tolerance=0, **rest)
    check_gradients("CumSum", [X, np.array(axis)], **rest)


def test_running_products():
    x = RNG.normal(size=(3, 4))
    for rest, expected in (
        ({}, np.cumprod(x, 1)),
        ({"reverse": 1}, np.cumprod(x[:, ::-1], 1)[:, ::-1]),
        ({"exclusive": 1}, np.cumprod(np.c_[np.ones(3), x[:, :-1]], 1)),
    ):
        check("CumProd", [x, np.array(1)], opset=26, expected=[expected], **rest)
    check_gradients("CumProd", [X, np.array(1)], opset=26)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_top_k(largest, axis):
    ties = RNG.integers(0, 4, (4, 6)).astype(np.float32)
    k = np.array([3])
    check("TopK", [ties, k], 2, tolerance=0, largest=largest, axis=axis)
    check("TopK", [RNG.integers(0, 4, (4, 6)), k], 2, tolerance=0, largest=largest, axis=axis)
    check_gradients("TopK", [X[0], k], 2, largest=largest, axis=axis)


def test_top_k_of_older_opsets():
    check("TopK", [X], 2, tolerance=0, opset=9, k=2)
    check("TopK", [X, np.array([2])], 2, tolerance=0, opset=10, axis=1)
