"""Stored tensors of every kind, wherever a file keeps them."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcompress.errors import ModelError
from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.sparse import SparseArray
from onnxcompress.ir.stored import stored_bytes
from tests.helpers import exported, outputs, parse, proto, reload, run, tensor

RNG = np.random.default_rng(0)
KNOWN = {str(helper.tensor_dtype_to_np_dtype(value)) for value in TensorProto.DataType.values()[1:]}
DTYPES = sorted(KNOWN - {"object"})
"""Every element type that this onnx knows, but strings."""


def _dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))


def _values(dtype: np.dtype, *shape: int) -> np.ndarray:
    if dtype.kind in "iu" and dtype.itemsize > 1:
        info = np.iinfo(dtype)
        return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)
    return RNG.integers(0, 2, shape).astype(np.float32).astype(dtype)


def _model_of(tensor: TensorProto) -> onnx.ModelProto:
    """The stored tensor, and no more, is what the model returns."""
    info = helper.make_tensor_value_info("y", tensor.data_type, list(tensor.dims))
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [info])
    graph.initializer.append(tensor)
    opset = helper.make_opsetid("", 21)
    return helper.make_model(graph, ir_version=10, opset_imports=[opset])


def _stored(model: Model, name: str = "w") -> Constant:
    found = tensor(model, name)
    assert isinstance(found, Constant)
    return found


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("name", DTYPES)
def test_element_types(name: str, external: bool, tmp_path: Path) -> None:
    dtype = _dtype(name)
    values = _values(dtype, 3, 4097)
    stored = numpy_helper.from_array(values, "w")
    model = import_model(_model_of(stored))
    assert _stored(model).nbytes == len(stored.raw_data) == model.weight_bytes
    io.save(model, tmp_path / "m.onnx", external=external)
    again = io.load(tmp_path / "m.onnx")
    assert isinstance(_stored(again).stored, np.ndarray) is not external
    assert _stored(again).dtype == dtype
    assert _stored(again).shape == (3, 4097)
    assert _stored(again).values.tobytes() == values.tobytes()
    assert exported(again).graph.initializer[0].raw_data == stored.raw_data


def test_strings(tmp_path: Path) -> None:
    words = np.array([["a", "ü" * 3000], ["", "d"]], object)
    model = import_model(_model_of(numpy_helper.from_array(words, "w")))
    io.save(model, tmp_path / "m.onnx", external=True)
    assert run(io.load(tmp_path / "m.onnx")).tolist() == words.tolist()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.full(shape, 3.5, np.float32)
    model = import_model(_model_of(numpy_helper.from_array(values, "w")))
    io.save(model, tmp_path / "m.onnx")
    result = run(io.load(tmp_path / "m.onnx"))
    assert result.shape == shape
    np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    "onnx_type", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT4, TensorProto.BOOL]
)
def test_raw_data_and_typed_fields_read_alike(onnx_type: int, raw: bool) -> None:
    values = [1, 0, 1, 1, 0]
    data = numpy_helper.from_array(
        np.array(values, helper.tensor_dtype_to_np_dtype(onnx_type)), "w"
    )
    stored = data if raw else helper.make_tensor("w", onnx_type, [5], values)
    assert stored.HasField("raw_data") is raw
    assert _stored(import_model(_model_of(stored))).values.astype(int).tolist() == values


def test_stored_bytes_counts_packed_elements() -> None:
    assert stored_bytes((3, 3), _dtype("int4")) == 5
    assert stored_bytes((5,), _dtype("uint2")) == 2
    assert stored_bytes((), _dtype("int4")) == 1
    assert stored_bytes((0,), _dtype("int4")) == 0
    assert stored_bytes((1 << 40, 3), _dtype("float32")) == 12 << 40


def test_no_one_writes_into_a_stored_array() -> None:
    model = parse("g () => (float[2] y) <float[2] w = {1, 2}> { y = Identity(w) }")
    with pytest.raises(ValueError, match="read-only"):
        _stored(model).values[0] = 3


def _sparse(indices: np.ndarray, values: list[float], dims: list[int]) -> onnx.ModelProto:
    model = proto("g () => (float[2, 3] y) { y = Identity(w) }")
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [len(values)], values),
        numpy_helper.from_array(indices),
        dims,
    )
    model.graph.sparse_initializer.append(sparse)
    return model


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_tensors_stay_sparse_and_read_dense(indices: list[object]) -> None:
    original = _sparse(np.array(indices), [7.0, 8.0], [2, 3])
    model = import_model(_sparse(np.array(indices), [7.0, 8.0], [2, 3]))
    assert isinstance(_stored(model).stored, SparseArray)
    np.testing.assert_array_equal(_stored(model).values, [[0, 7, 0], [0, 0, 8]])
    again = exported(model)
    assert again.graph.sparse_initializer == original.graph.sparse_initializer
    assert not again.graph.initializer
    np.testing.assert_array_equal(outputs(again, {})["y"], [[0, 7, 0], [0, 0, 8]])


@pytest.mark.parametrize(
    ("indices", "dims", "told"),
    [
        (np.array([1, 6]), [2, 3], "outside"),
        (np.array([-1, 2]), [2, 3], "outside"),
        (np.array([[0, 3], [0, 0]]), [2, 3], "outside"),
        (np.array([1]), [2, 3], "indices of shape"),
        (np.array([[0, 1, 0], [1, 2, 0]]), [2, 3], "indices of shape"),
        (np.array([1, 2], np.int32), [2, 3], "int32, where ONNX has int64"),
        (np.array([1, 5]), [1 << 20, 1 << 20], "over 2 GiB"),
        (np.array([1, 5]), [-2, 3], "negative"),
    ],
)
def test_sparse_tensors_that_cannot_be(indices: np.ndarray, dims: list[int], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        import_model(_sparse(indices, [7.0, 8.0], dims))


OVERRIDABLE = "g (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }"


def test_initializers_that_a_caller_may_override() -> None:
    message = proto(OVERRIDABLE)
    message.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2]))
    model = reload(import_model(message))
    assert [value.name for value in model.graph.inputs] == ["x", "w"]
    assert model.constants() == []  # its value is not known, so no pass may fold it
    x, w = np.zeros(2, np.float32), np.full(2, 9, np.float32)
    np.testing.assert_array_equal(run(model, x=x), [1, 2])
    np.testing.assert_array_equal(run(model, x=x, w=w), w)


def test_many_overridable_initializers_keep_their_order() -> None:
    names = [f"w{index}" for index in range(40)]
    message = proto("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    for name in names:
        message.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
        message.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [1], [1]))
    again = exported(import_model(message))
    assert [value.name for value in again.graph.input] == ["x", *names]
    assert [value.name for value in again.graph.initializer] == names


def test_before_ir_4_inputs_repeat_the_initializers() -> None:
    text = OVERRIDABLE.replace("g (", '<ir_version: 3, opset_import: ["" : 8]> g (')
    message = proto(text)
    message.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2]))
    model = import_model(message)
    assert [value.name for value in model.graph.inputs] == ["x"]
    np.testing.assert_array_equal(_stored(model).values, [1, 2])
    again = exported(model)
    assert again.ir_version == 3
    assert sorted(value.name for value in again.graph.input) == ["w", "x"]
    onnx.checker.check_model(again)
    np.testing.assert_array_equal(run(again, x=np.zeros(2, np.float32)), [1, 2])


def test_unused_initializers_are_kept() -> None:
    model = parse("g (float[1] x) => (float[1] y) <float[1] spare = {4}> { y = Relu(x) }")
    assert [value.name for value in reload(model).graph.initializers] == ["spare"]
    assert model.parameters == 0


def test_a_stored_tensor_may_be_an_output() -> None:
    model = parse("g () => (float[2] w) <float[2] w = {1, 2}> {}")
    np.testing.assert_array_equal(run(reload(model)), [1, 2])
