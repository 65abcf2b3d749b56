import ml_dtypes
import numpy as np
import pytest

from onnxcompress.data.casting import Kind, cast, is_float, kind_of
from onnxcompress.errors import DataError


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (np.float64, np.float32),
        (np.float16, np.float32),
        (np.float32, np.float16),
        (np.float32, ml_dtypes.bfloat16),
        (np.int32, np.int64),
        (np.int64, np.int32),
        (np.uint8, np.int64),
        (np.int64, np.uint8),
        (np.bool_, np.int64),
        (">f4", np.float32),
    ],
)
def test_same_kind_is_cast(found: object, wanted: object) -> None:
    array = np.array([0, 1, 1]).astype(found)  # type: ignore[call-overload]
    result = cast(array, np.dtype(wanted), "x")  # type: ignore[call-overload]
    assert result.dtype == np.dtype(wanted)  # type: ignore[call-overload]
    np.testing.assert_array_equal(result.astype(np.float64), [0, 1, 1])


@pytest.mark.parametrize(
    ("found", "wanted", "told"),
    [
        (np.uint8, np.float32, r"prepare it as in training.*astype\(np.float32\) / 255"),
        (np.bool_, np.float32, "if 0.0 and 1.0 are meant"),
        (np.float32, np.int64, "store indices as integers"),
        (np.int64, np.bool_, r"x.astype\(bool\)"),
        (np.float32, np.bool_, "x > 0.5"),
        (np.complex64, np.float32, "store it as float32"),
        (np.dtype("U3"), np.float32, "store it as float32"),
    ],
)
def test_a_change_of_meaning_is_refused(found: object, wanted: object, told: str) -> None:
    array = np.zeros(2, found)  # type: ignore[call-overload]
    with pytest.raises(DataError, match=f"here is .*, the model expects .*; .*{told}"):
        cast(array, np.dtype(wanted), "here")  # type: ignore[call-overload]


def test_integers_must_fit() -> None:
    with pytest.raises(DataError, match=r"here is int64 with values -1\.\.2, which uint8 cannot"):
        cast(np.array([-1, 2]), np.dtype(np.uint8), "here")
    with pytest.raises(DataError, match="cannot hold"):
        cast(np.array([2**40]), np.dtype(np.int32), "here")
    assert cast(np.array([255]), np.dtype(np.uint8), "here").tolist() == [255]


def test_what_overflows_becomes_infinite_without_a_warning() -> None:
    assert np.isinf(cast(np.array([1e300]), np.dtype(np.float32), "x")).all()


def test_what_fits_already_is_not_copied() -> None:
    array = np.ones(3, np.float32)
    assert cast(array, np.dtype(np.float32), "x") is array


def test_bytes_without_a_name_are_taken_as_bfloat16() -> None:
    values = np.array([1.5, -2], ml_dtypes.bfloat16)
    result = cast(values.view("V2"), values.dtype, "x")
    np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize("text", [np.array(["a", "bc"]), np.array([b"a", b"bc"])])
def test_text_becomes_objects(text: np.ndarray) -> None:
    result = cast(text, np.dtype(object), "x")
    assert result.dtype == object
    assert result.tolist() == ["a", "bc"]


def test_kinds() -> None:
    assert is_float(np.dtype(ml_dtypes.bfloat16))
    assert is_float(np.dtype(ml_dtypes.float8_e4m3fn))
    assert kind_of(np.dtype(ml_dtypes.uint4)) is Kind.INTEGER
    assert kind_of(np.dtype([("a", np.int32)])) is Kind.OTHER
