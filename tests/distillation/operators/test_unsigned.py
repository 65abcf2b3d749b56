import numpy as np
import pytest

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, node_model, ours

EDGE = {np.uint16: 2**16 - 1, np.uint32: 2**32 - 1, np.uint64: 2**63 - 1}


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_results_wrap_as_onnxruntime_does(op, dtype):
    a = np.array([EDGE[dtype], 5, 0, 7], dtype)
    b = np.array([1, 9, 1, 3], dtype)
    expected = {"Add": a + b, "Sub": a - b, "Mul": a * b}[op]
    check(op, [a, b], tolerance=0, expected=[expected])
    check(op, [a, b], tolerance=0)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
def test_comparisons_and_quotients_take_them_as_positive(dtype):
    a, b = np.array([EDGE[dtype], 5, 8], dtype), np.array([3, 5, 9], dtype)
    check("Greater", [a, b], tolerance=0, expected=[a > b])
    check("Div", [a, b], tolerance=0, expected=[a // b])
    check("Max", [a, b], tolerance=0, expected=[np.maximum(a, b)])


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_positions_stay_int64(dtype):
    x = np.array([[3, EDGE[dtype], 7]], dtype)
    at = np.array([[1, 2]])
    check("ArgMax", [x], axis=1, tolerance=0, expected=[at[:, :1]])
    values = np.take_along_axis(x, at, 1)
    check("TopK", [x, np.array([2])], 2, tolerance=0, expected=[values, at])


def test_what_int64_cannot_hold_is_refused():
    large = np.array([2**63], np.uint64)
    with pytest.raises(UnsupportedError, match=r"'n' \(Add\): uint64 values of 2\*\*63"):
        ours(node_model("Add", [large, large]), [large, large])
