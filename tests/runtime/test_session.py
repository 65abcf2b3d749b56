from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcompress.errors import SessionError
from onnxcompress.runtime.session import Session, SessionSettings, TensorSignature
from tests.helpers import parse_model

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'


def _bytes(text: str) -> bytes:
    return parse_model(f"{HEAD} {text}").SerializeToString()


MATMUL = _bytes(
    "g (float[N, 3] x) => (float[N, 2] y) <float[3,2] w = {1,2,3,4,5,6}> { y = MatMul(x, w) }"
)
X = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
W = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float64)


def test_signature_and_values() -> None:
    session = Session(MATMUL)
    assert session.inputs == (
        TensorSignature(name="x", dtype=np.dtype(np.float32), shape=("N", 3)),
    )
    assert session.outputs[0].shape == ("N", 2)
    np.testing.assert_allclose(session.run({"x": X})["y"], X.astype(np.float64) @ W)
    assert session.load_seconds > 0


def test_path_threads_and_no_optimization_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(MATMUL)
    settings = SessionSettings(threads=2, optimize=False, prepack=False)
    np.testing.assert_allclose(Session(path, settings).run({"x": X})["y"], X @ W)


def test_overridable_initializers_are_no_inputs() -> None:
    model = parse_model(f"{HEAD} g (float[2] x) => (float[2] y) {{ y = Add(x, b) }}")
    model.graph.initializer.append(helper.make_tensor("b", TensorProto.FLOAT, [2], [1.0, 2.0]))
    model.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [2]))
    session = Session(model.SerializeToString())
    assert [tensor.name for tensor in session.inputs] == ["x"]
    ones = np.ones(2, np.float32)
    np.testing.assert_array_equal(session.run({"x": ones})["y"], [2.0, 3.0])


def test_only_the_outputs_asked_for() -> None:
    session = Session(
        _bytes("g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Neg(x) }")
    )
    result = session.run({"x": np.array([1, -1], np.float32)}, ["z"])
    assert list(result) == ["z"]
    np.testing.assert_array_equal(result["z"], [-1, 1])


def test_strings_and_scalars() -> None:
    session = Session(
        _bytes(
            "g (string[2] s, bool[] q) => (string[2] t, bool[] r) { t = Identity(s) r = Not(q) }"
        )
    )
    assert [tensor.dtype for tensor in session.inputs] == [np.dtype(object), np.dtype(bool)]
    result = session.run({"s": np.array(["a", "b"], object), "q": np.array(True)})
    assert result["t"].tolist() == ["a", "b"]
    assert not result["r"]


def test_sequences_come_as_arrays_of_objects() -> None:
    session = Session(
        _bytes("g (float[2] x) => (seq(float[2]) s) { y = Neg(x) s = SequenceConstruct(x, y) }")
    )
    sequence = session.run({"x": np.array([1, 2], np.float32)})["s"]
    assert sequence.dtype == object
    assert sequence.shape == (2,)
    np.testing.assert_array_equal(sequence[1], [-1, -2])


@pytest.mark.parametrize(
    ("onnx_type", "code", "dtype"),
    [
        ("float16", TensorProto.FLOAT16, np.float16),
        ("bfloat16", TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        ("float8e4m3fn", TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        ("float8e5m2", TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
    ],
)
def test_narrow_floats_go_in_and_out(onnx_type: str, code: int, dtype: type) -> None:
    session = Session(
        _bytes(
            f"g ({onnx_type}[2] h, float[2] x) => (float[2] y, {onnx_type}[2] n)"
            f"{{ y = Cast<to = 1>(h) n = Cast<to = {code}>(x) }}"
        )
    )
    assert session.inputs[0].dtype == np.dtype(dtype)
    values: np.ndarray = np.array([1.5, -0.75], dtype)
    result = session.run({"h": values, "x": values.astype(np.float32)})
    np.testing.assert_array_equal(result["y"], [1.5, -0.75])
    assert result["n"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result["n"], values)


def test_a_wrong_dtype_is_never_taken_as_bfloat16() -> None:
    session = Session(_bytes("g (bfloat16[2] b) => (float[2] y) { y = Cast<to = 1>(b) }"))
    with pytest.raises(SessionError, match="input 'b' is float16, expected bfloat16"):
        session.run({"b": np.ones(2, np.float16)})


def test_a_missing_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"cannot load .*none\.onnx: .*File doesn't exist") as e:
        Session(tmp_path / "none.onnx")
    assert "\n" not in str(e.value)


def test_garbage_is_told() -> None:
    with pytest.raises(SessionError, match=r"cannot load the model: .*protobuf"):
        Session(b"garbage")


def test_an_unknown_operator_is_told() -> None:
    with pytest.raises(SessionError, match="No Op registered for Foo"):
        Session(_bytes("g (float[2] x) => (float[2] y) { y = Foo(x) }"))


@pytest.mark.parametrize(
    ("feed", "told"),
    [
        ({"x": np.ones((2, 4), np.float32)}, "input: x .*index: 1 Got: 4 Expected: 3"),
        ({"x": X.astype(np.float64)}, r"tensor\(double\).*expected: \(tensor\(float\)"),
        ({}, "'x'"),
        ({"x": X, "z": X}, "z"),
    ],
)
def test_a_bad_feed_is_told_in_one_line(feed: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(SessionError, match=told) as error:
        Session(MATMUL).run(feed)
    assert "\n" not in str(error.value)
    assert "ONNXRuntimeError" not in str(error.value)


def test_a_failing_node_is_told_without_noise(capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(
        _bytes("g (float[N] x, int64[2] s) => (float[a, b] y) { [cut] y = Reshape(x, s) }")
    )
    with pytest.raises(SessionError, match=r"Reshape node. Name:'cut'.*cannot be reshaped"):
        session.run({"x": np.ones(3, np.float32), "s": np.array([2, 2])})
    assert capfd.readouterr().err == ""


def test_the_optimized_graph_is_saved_beside_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "o.onnx"
    Session(MATMUL, SessionSettings(save_optimized_to=path))
    assert [n.op_type for n in onnx.load(path, load_external_data=False).graph.node] == ["MatMul"]


def test_a_profile_needs_a_place() -> None:
    with pytest.raises(SessionError, match="profile_to"):
        Session(MATMUL).end_profiling()


def test_a_profile_is_written(tmp_path: Path) -> None:
    session = Session(MATMUL, SessionSettings(profile_to=tmp_path / "p"))
    session.run({"x": X})
    path = session.end_profiling()
    assert path.parent == tmp_path
    assert "MatMul" in path.read_text()
