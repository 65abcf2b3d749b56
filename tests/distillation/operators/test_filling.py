import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcompress.distillation.interpreter import Interpreter
from onnxcompress.distillation.values import as_tensor, to_numpy
from onnxcompress.ir.from_proto import import_model
from tests import helpers
from tests.distillation.operators.support import check, check_gradients, copied


def test_constant_of_shape():
    shape = np.array([2, 0, 3])
    check("ConstantOfShape", [shape[::2]], tolerance=0)
    for value in (np.array([7], np.int64), np.array([2.5], np.float32), np.array([True])):
        check("ConstantOfShape", [shape], tolerance=0, value=numpy_helper.from_array(value))
        check("ConstantOfShape", [shape[:1]], tolerance=0, value=numpy_helper.from_array(value))
    check("ConstantOfShape", [np.zeros(0, np.int64)], tolerance=0)


@pytest.mark.parametrize("k", [0, 2, -1])
def test_eye_like(k):
    x = np.zeros((3, 4), np.float32)
    check("EyeLike", [x], tolerance=0, k=k)
    check("EyeLike", [x], tolerance=0, k=k, dtype=onnx.TensorProto.INT64)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis):
    indices = np.array([[1, 9, -3], [0, -1, 4]])
    values = np.array([0.5, 3], np.float32)
    check("OneHot", [indices, np.array(5), values], tolerance=0, axis=axis)
    check("OneHot", [indices, np.array([5]), values], tolerance=0, axis=axis)
    check_gradients("OneHot", [indices, np.array(5), values], axis=axis)


@pytest.mark.parametrize(
    ("start", "limit", "delta"), [(0, 7, 2), (5, -3, -3), (2, 2, 1), (3, 1, 1), (1, 9, 4)]
)
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_range(start, limit, delta, dtype):
    check("Range", [np.array(each, dtype) for each in (start, limit, delta)], tolerance=0)


def test_range_of_fractions():
    check("Range", [np.array(each, np.float32) for each in (0.1, 2.05, 0.3)], tolerance=1e-6)


def test_constant_where_it_is_an_output():
    model = helpers.proto(
        "g () => (float[2] y, int64 z) {"
        "y = Constant<value_floats = [1.5, 2.0]>() z = Constant<value_int = 3>() }"
    )
    found = Interpreter(import_model(copied(model))).run({})
    expected = {"y": np.array([1.5, 2], np.float32), "z": np.array(3)}
    helpers.assert_same_outputs(
        expected, {name: to_numpy(as_tensor(value)) for name, value in found.items()}
    )
