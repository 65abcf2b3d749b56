import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxcompress.distillation.call import UnsupportedError
from tests.distillation.operators.support import check, check_gradients, node_model, ours

X = np.array([-2.7, -1, -0.4, 0, 0.6, 1, 3.5, 100], np.float32)
TYPES = [np.float32, np.float16, np.float64, np.int32, np.int64, np.int8, np.bool_]


@pytest.mark.parametrize("before", TYPES)
@pytest.mark.parametrize("after", TYPES)
def test_cast(before, after):
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(after))
    check("Cast", [X.astype(before)], tolerance=0, to=kind)
    check("CastLike", [X.astype(before), np.zeros(1, after)], tolerance=0)


def test_cast_to_unsigned():
    x = np.abs(X)
    for kind in (TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64):
        check("Cast", [x], tolerance=0, to=kind)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_cast_to_float8_saturates(name):
    x = np.array([1e6, -1e6, 1.3, -0.01, 440, 470, np.nan], np.float32)
    kind = {"float8_e4m3fn": TensorProto.FLOAT8E4M3FN, "float8_e5m2": TensorProto.FLOAT8E5M2}[name]
    dtype = getattr(ml_dtypes, name)
    largest = float(ml_dtypes.finfo(dtype).max)
    expected = np.clip(x, -largest, largest).astype(dtype).astype(np.float32)
    found = ours(node_model("Cast", [x], to=kind), [x])["o0"]
    np.testing.assert_array_equal(found, expected)


def test_cast_passes_gradients_between_floats():
    check_gradients("Cast", [X], to=TensorProto.FLOAT)
    check_gradients("Cast", [X], to=TensorProto.DOUBLE)


_FLOAT4E2M1 = 23
"""By number: onnx has the name from 1.18 on."""


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (TensorProto.INT4, "casts to INT4 are not computed"),
        (_FLOAT4E2M1, "there is no (FLOAT4E2M1|element type 23) in PyTorch"),
        (TensorProto.STRING, "there is no STRING in PyTorch"),
    ],
)
def test_other_types_are_refused(kind, reason):
    with pytest.raises(UnsupportedError, match=rf"node 'n' \(Cast\): {reason}"):
        ours(node_model("Cast", [X], opset=23, to=kind), [X])


def test_casts_that_would_differ_are_refused():
    with pytest.raises(UnsupportedError, match="float8 that do not saturate"):
        ours(node_model("Cast", [X], to=TensorProto.FLOAT8E5M2, saturate=0), [X])
    inputs = [X, np.zeros(1, ml_dtypes.int4)]
    with pytest.raises(UnsupportedError, match=r"\(CastLike\): casts to integers below 8 bits"):
        ours(node_model("CastLike", inputs), inputs)


def test_bit_cast():
    whole = X.view(np.int32)
    check("BitCast", [X], opset=26, to=TensorProto.INT32, expected=[whole], tolerance=0)
    check("BitCast", [whole], opset=26, to=TensorProto.FLOAT, expected=[X], tolerance=0)
    with pytest.raises(UnsupportedError, match=r"other bits in torch\.float32 than"):
        ours(node_model("BitCast", [X], opset=26, to=TensorProto.INT64), [X])
