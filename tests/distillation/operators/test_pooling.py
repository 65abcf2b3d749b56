import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


WINDOWS = [
    ((2, 3, 9), {"kernel_shape": [3]}),
    ((2, 3, 9, 8), {"kernel_shape": [3, 2], "strides": [2, 2]}),
    ((2, 3, 9, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 3, 9, 8), {"kernel_shape": [3, 4], "strides": [2, 3], "pads": [0, 2, 1, 1]}),
    ((1, 2, 10, 7), {"kernel_shape": [2, 3], "strides": [3, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 10, 7), {"kernel_shape": [4, 3], "strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 10, 7), {"kernel_shape": [4, 3], "strides": [3, 2], "auto_pad": "VALID"}),
    ((1, 2, 10, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    (
        (1, 2, 7, 8),
        {"kernel_shape": [2, 3], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    ),
    ((1, 2, 11, 9), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 0, 1, 1]}),
    (
        (1, 2, 6, 5, 7),
        {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2], "pads": [0, 1, 0, 1, 1, 0]},
    ),
]


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
def test_max_pool(shape, attributes):
    check("MaxPool", [normal(*shape)], opset=12, **attributes)
    check("MaxPool", [normal(*shape)], 2, opset=22, **attributes)
    check("MaxPool", [normal(*shape)], 2, storage_order=1, **attributes)


def test_max_pool_of_integers():
    x = RNG.integers(-128, 128, (1, 2, 7, 7)).astype(np.int8)
    check("MaxPool", [x], tolerance=0, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    check("MaxPool", [x.astype(np.uint8)], 2, tolerance=0, kernel_shape=[2, 2])


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(shape, attributes, include):
    check("AveragePool", [normal(*shape)], count_include_pad=include, **attributes)
    if "dilations" not in attributes and "ceil_mode" not in attributes:
        check("AveragePool", [normal(*shape)], opset=7, count_include_pad=include, **attributes)


@pytest.mark.parametrize(("shape", "attributes"), WINDOWS)
def test_lp_pool(shape, attributes):
    check("LpPool", [normal(*shape)], p=3, **attributes)
    check("LpPool", [normal(*shape)], p=1, **attributes)


def test_gradients_of_pools():
    x = normal(1, 2, 5, 6)
    window = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1}
    check_gradients("MaxPool", [x], 2, **window)
    check_gradients("MaxPool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    check_gradients("AveragePool", [x], **window)
    check_gradients("AveragePool", [x], kernel_shape=[2, 2], dilations=[2, 1])
    check_gradients("LpPool", [x], **window)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)])
def test_global_pools(shape):
    x = normal(*shape)
    check("GlobalAveragePool", [x])
    check("GlobalMaxPool", [x])
    check("GlobalLpPool", [x], p=3)
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        check_gradients(op, [x])


def test_roots_of_zero_have_no_gradient():
    zeros = np.zeros((1, 1, 4, 4), np.float32)
    check("LpPool", [zeros], kernel_shape=[2, 2])
    check("GlobalLpPool", [zeros])


def test_max_unpool():
    x = normal(1, 2, 2, 3)
    at = np.array([[[[0, 3, 5], [12, 14, 17]], [[24, 26, 29], [37, 38, 41]]]], np.int64)
    shape = np.array([1, 2, 5, 7], np.int64)
    check("MaxUnpool", [x, at], kernel_shape=[2, 2], strides=[2, 2])
    check("MaxUnpool", [x, at, shape], kernel_shape=[2, 2], strides=[2, 2])
    check_gradients("MaxUnpool", [x, at], kernel_shape=[2, 2], strides=[2, 2])
