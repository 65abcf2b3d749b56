import numpy as np
import pytest

from tests.distillation.operators.support import check, check_gradients

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_gather(axis, dtype):
    for indices in ([[0, 2], [-1, 1]], [2], [], -2, [[1]]):
        at = np.array(indices, dtype)
        check("Gather", [X, at], tolerance=0, axis=axis)
    check("Gather", [X, np.array([[2, 0]], dtype)], tolerance=0, axis=axis % 3, opset=7)
    check_gradients("Gather", [X, np.array([[0, 2], [2, 1]], dtype)], axis=axis)


def test_gather_of_other_types():
    for dtype in (np.int64, np.uint8, np.bool_):
        check("Gather", [(X > 0).astype(dtype), np.array([2, 0])], tolerance=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(axis):
    size = X.shape[axis]
    at = RNG.integers(-size, size, X.shape)
    check("GatherElements", [X, at], tolerance=0, axis=axis)
    check_gradients("GatherElements", [X, at], axis=axis)


@pytest.mark.parametrize(("shared", "depth"), [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)])
def test_gather_nd(shared, depth):
    limit = np.array(X.shape[shared : shared + depth])
    at = RNG.integers(-limit, limit, (*X.shape[:shared], 2, depth))
    check("GatherND", [X, at], tolerance=0, batch_dims=shared)
    check_gradients("GatherND", [X, at], batch_dims=shared)


def places(axis, shape):
    """Different positions along an axis."""
    keys = RNG.random((*shape[:axis], X.shape[axis], *shape[axis + 1 :]))
    order = np.argsort(keys, axis)
    return np.take(order, range(shape[axis]), axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scatter_elements(axis):
    at = places(axis, (2, 3, 4))
    updates = RNG.normal(size=at.shape).astype(np.float32)
    check("ScatterElements", [X, at, updates], tolerance=0, axis=axis)
    check("ScatterElements", [X, at - X.shape[axis], updates], tolerance=0, axis=axis - 3)
    check("Scatter", [X, at, updates], tolerance=0, axis=axis, opset=9)
    check_gradients("ScatterElements", [X, at, updates], axis=axis)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatter_elements_that_meet(reduction):
    at = np.array([[0, 1, 1, 0], [2, 2, 2, 1]])[..., None].repeat(5, 2)
    updates = RNG.normal(size=at.shape).astype(np.float32)
    check("ScatterElements", [X, at, updates], opset=18, axis=0, reduction=reduction)
    check_gradients("ScatterElements", [X, at, updates], axis=0, reduction=reduction)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd(depth):
    at = np.array([[2, 1, 0], [0, -1, 2]])[:, :depth]
    updates = RNG.normal(size=(2, *X.shape[depth:])).astype(np.float32)
    check("ScatterND", [X, at, updates], tolerance=0, opset=11)
    check_gradients("ScatterND", [X, at, updates])


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatter_nd_where_updates_meet(reduction):
    at = np.array([[[2, 1], [0, 2]], [[2, 1], [1, 1]]])
    updates = RNG.normal(size=(2, 2, 5)).astype(np.float32)
    check("ScatterND", [X, at, updates], opset=18, reduction=reduction)
    check_gradients("ScatterND", [X, at, updates], reduction=reduction)


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(mode):
    cache, update = X[:, None].repeat(2, 1), RNG.normal(size=(3, 2, 2, 5)).astype(np.float32)
    begin = np.array([1, 0, 2 if mode == "linear" else 3])
    expected = cache.copy()
    for batch, first in enumerate(begin):
        for step in range(2):
            expected[batch, :, (first + step) % 4] = update[batch, :, step]
    rest = {"opset": 24, "mode": mode}
    check("TensorScatter", [cache, update, begin], tolerance=0, expected=[expected], **rest)
    check_gradients("TensorScatter", [cache, update, begin], **rest)


def test_compress():
    check("Compress", [X, np.array([True, False, True])], tolerance=0, axis=1)
    check("Compress", [X, np.array([False, True, True, False, True])], tolerance=0, axis=-1)
    check("Compress", [X, np.array([False, True, True])], tolerance=0)
    check_gradients("Compress", [X, np.array([True, False, True])], axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_non_zero(dtype):
    check("NonZero", [(X > 0.5).astype(dtype)], tolerance=0)
    check("NonZero", [np.zeros((2, 3), dtype)], tolerance=0)


@pytest.mark.parametrize("sort", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_unique(sort, dtype):
    x = np.array([[2, 1, 1], [3, 4, 3], [2, 1, 1]], dtype)
    check("Unique", [x], 4, tolerance=0, sorted=sort)
    check("Unique", [x], 4, tolerance=0, sorted=sort, axis=0)
    check("Unique", [x], 4, tolerance=0, sorted=sort, axis=-1)


def test_unique_passes_gradients():
    check_gradients("Unique", [np.array([[0.5, -1, 2], [3, 4, 3]], np.float32)], axis=1)
