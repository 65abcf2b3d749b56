"""Tensors without their zeros: what they take, what comes back, what is refused.

Reading and writing in a model: test_tensors.py.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnxcompress.errors import ModelError
from onnxcompress.ir import io
from onnxcompress.ir.clone import clone
from onnxcompress.ir.edit import Editor
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.sparse import SparseArray, why_not_sparse
from onnxcompress.runtime.context import RuntimeContext
from tests.helpers import exported, parse, proto, reload, run

GRAPH = "g () => (float[2, 3] y) { y = Identity(w) }"


def message(values: TensorProto, indices: TensorProto, dims: list[int]) -> onnx.ModelProto:
    model = proto(GRAPH)
    values.name = "w"
    model.graph.sparse_initializer.add(values=values, indices=indices, dims=dims)
    return model


def floats(*values: float, dims: list[int] | None = None) -> TensorProto:
    array = np.array(values, np.float32)
    return TensorProto(data_type=1, dims=dims or array.shape, raw_data=array.tobytes())


def places(*values: int, dims: list[int] | None = None) -> TensorProto:
    array = np.array(values, np.int64)
    return TensorProto(data_type=7, dims=dims or array.shape, raw_data=array.tobytes())


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.float64, np.int8, np.int64, np.bool_, ml_dtypes.bfloat16]
)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4), (2, 1, 3, 2), (0, 3)])
def test_what_is_stored_without_zeros_reads_with_them(
    shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    random = np.random.default_rng(0)
    dense = (random.integers(-3, 4, shape) * (random.random(shape) < 0.5)).astype(dtype)
    dense = np.asarray(dense)
    stored = SparseArray.of(dense)
    stored.check()
    assert (stored.shape, stored.dtype) == (shape, dense.dtype)
    np.testing.assert_array_equal(stored.load(), dense)
    assert stored.nbytes == np.count_nonzero(dense) * (dense.itemsize + 8)


def test_negative_zeros_are_zeros_and_nan_is_none() -> None:
    stored = SparseArray.of(np.array([[-0.0, np.nan], [np.inf, 0]], np.float32))
    assert stored.nbytes == 2 * 12
    np.testing.assert_array_equal(stored.load(), np.array([[0, np.nan], [np.inf, 0]], np.float32))


def test_the_bytes_reported_are_those_in_the_file() -> None:
    model = import_model(message(floats(7, 8), places(1, 5), [2, 3]))
    (constant,) = model.constants()
    assert constant.nbytes == model.weight_bytes == 2 * (4 + 8)
    by_coordinates = import_model(message(floats(7, 8), places(0, 1, 1, 2, dims=[2, 2]), [2, 3]))
    assert by_coordinates.weight_bytes == 2 * (4 + 16)
    assert model.parameters == 6


def test_no_one_writes_into_what_is_read() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SparseArray.of(np.eye(3)).load()[0] = 1


def _with_sparse_weight() -> Model:
    model = parse("g (float[1, 3] x) => (float[1, 2] y) { [n] y = MatMul(x, w) }")
    edit = Editor(model)
    node = model.graph.nodes[0]
    edit.set_input(
        node, 1, edit.constant("w", SparseArray.of(np.array([[0, 2], [0, 0], [5, 0]], np.float32)))
    )
    edit.finish()
    return model


def test_an_edit_can_store_sparse_and_a_clone_shares_it() -> None:
    model = _with_sparse_weight()
    copy = clone(model)
    assert copy.constants()[0].stored is model.constants()[0].stored
    for each in (model, copy, reload(model)):
        proto = exported(each).graph
        assert not proto.initializer
        assert list(numpy_helper.to_array(proto.sparse_initializer[0].indices)) == [1, 4]
        np.testing.assert_array_equal(run(each, x=np.array([[1, 2, 3]], np.float32)), [[15, 2]])
    onnx.checker.check_model(exported(model))


def test_new_values_are_stored_dense() -> None:
    model = _with_sparse_weight()
    edit = Editor(model)
    edit.set_values(model.graph.nodes[0], 1, np.ones((3, 2), np.float32))
    assert [type(c.stored) for c in model.constants()] == [np.ndarray]
    assert len(exported(model).graph.initializer) == 1


def test_sparse_tensors_stay_in_the_model_when_others_lie_beside_it(tmp_path: Path) -> None:
    model = _with_sparse_weight()
    dense = Constant("v", np.arange(600, dtype=np.float32).reshape(2, 300))
    edit = Editor(model)
    y = edit.add(
        "MatMul", [model.graph.nodes[0].outputs[0], dense], near=model.graph.nodes[0], base="z"
    )
    edit.finish()
    y.dtype, y.shape = np.dtype(np.float32), [1, 300]
    model.graph.outputs[:] = [y]
    io.save(model, tmp_path / "m.onnx", external=True)
    raw = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert len(raw.graph.sparse_initializer) == 1
    assert raw.graph.initializer[0].data_location == TensorProto.EXTERNAL
    again = io.load(tmp_path / "m.onnx")
    x = np.array([[1, 2, 3]], np.float32)
    np.testing.assert_array_equal(run(again, x=x), run(model, x=x))


HUGE = 1 << 40


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: message(floats(7), places(0), [HUGE]), "over 2 GiB"),
        (lambda: message(floats(7), places(0), [HUGE, HUGE, HUGE]), "over 2 GiB"),
        (lambda: message(floats(7), places(0), [HUGE, 0]), "outside"),
        (lambda: message(floats(7, 8, dims=[HUGE]), places(0, 1), [2, 3]), "of \\[2, 3\\]"),
        (lambda: message(floats(7, 8, dims=[-1]), places(0, 1), [2, 3]), "of \\[2, 3\\]"),
        (lambda: message(floats(7, 8), places(0, 1, dims=[-1]), [2, 3]), "of \\[2, 3\\]"),
        (lambda: message(floats(7, 8), places(0, 1, dims=[HUGE]), [2, 3]), "of \\[2, 3\\]"),
        (
            lambda: message(
                floats(1, 2, 3, 4, dims=[2, 2]), places(0, 1, 1, 0, dims=[2, 2]), [2, 3]
            ),
            "not \\[count\\]",
        ),
        (lambda: message(floats(7), places(1 << 62), [2, 3]), "outside"),
        (
            lambda: message(
                TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"a"]),
                places(0),
                [2, 3],
            ),
            "strings",
        ),
        (lambda: message(TensorProto(data_type=99, dims=[1]), places(0), [2, 3]), "type 99"),
        (lambda: message(floats(7), TensorProto(data_type=1, dims=[1]), [2, 3]), "of \\[2, 3\\]"),
        (lambda: message(floats(7), TensorProto(), [2, 3]), "of \\[2, 3\\]"),
    ],
)
def test_a_hostile_file_is_refused_before_memory_is_taken(
    build: Callable[[], onnx.ModelProto], told: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=told):
        import_model(build())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_memory_is_taken_when_someone_reads_not_when_it_loads() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = import_model(message(floats(7), places(5), [1 << 14, 1 << 15]))  # 2 GiB of zeros
    assert model.constants()[0].nbytes == 12
    assert clone(model).weight_bytes == 12
    assert model.dense_bytes == 1 << 31
    assert RuntimeContext().types(model) == {}  # too large to be run
    assert len(io.to_bytes(model)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        (np.float32, None),
        (ml_dtypes.float8_e4m3fn, None),
        (ml_dtypes.int4, "no sparse int4"),
        (np.object_, "strings"),
    ],
)
def test_which_types_are_taken(dtype: type, told: str | None) -> None:
    reason = why_not_sparse((4, 4), np.dtype(dtype))
    assert reason is None if told is None else told in str(reason)


def test_too_large_to_spread_out() -> None:
    assert why_not_sparse((1 << 29,), np.dtype(np.float32)) is None
    assert "over 2 GiB" in str(why_not_sparse(((1 << 29) + 1,), np.dtype(np.float32)))
