"""Files that are no models, or no longer: one line says so, and no memory is asked for."""

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcompress.errors import ModelError
from onnxcompress.ir import io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.sort import sort
from onnxcompress.ir.verify import verify
from tests.helpers import proto

TEXT = """g (bool b, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
    a = Add(x, w)
    y = If (b) <then_branch = t () => (float[2] o) { c = Constant <value_floats = [3.0, 4.0]> ()
                                                     o = Mul(a, c) },
                else_branch = e () => (float[2] p) { p = Clip(a) }>
}"""


def _refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        io.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no graph with outputs"),
        (b"# a text file\nimport onnx\n", "not an ONNX model"),
        (b"PK\x03\x04" + bytes(100), "not an ONNX model"),
        (bytes(4096), "not an ONNX model"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "holds no graph with outputs"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert told in _refused(path)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in _refused(tmp_path / "missing.onnx")
    assert "Is a directory" in _refused(tmp_path)


def test_files_too_large_for_a_message(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)  # a hole: takes no room on disk
    assert "an .onnx file holds 2 GiB at most" in _refused(path)


def test_every_truncation(tmp_path: Path) -> None:
    whole = proto(TEXT).SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            model = io.load(path)
        except ModelError as fault:
            assert "\n" not in str(fault)
        else:  # cut between two fields, with the graph before the cut
            assert len(model.graph.nodes) == 2


def test_random_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = proto(TEXT).SerializeToString()
    path = tmp_path / "m.onnx"
    seen = {True: 0, False: 0}
    for _ in range(1500):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            model = io.load(path)
            sort(model.graph)
            verify(model)
            io.to_bytes(model)
        except ModelError:
            seen[False] += 1
        else:
            seen[True] += 1
    assert min(seen.values()) > 50


def _import_with(tensor: TensorProto) -> None:
    model = proto("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.initializer.append(tensor)
    import_model(model)


@pytest.mark.parametrize("name", sorted(TensorProto.DataType.keys()))
@pytest.mark.parametrize("shape", [[1 << 40], [1 << 31, 1 << 31, 1 << 31], [-1], [3]])
@pytest.mark.parametrize("raw", [False, True])
def test_shapes_that_the_bytes_do_not_fill(name: str, shape: list[int], raw: bool) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.DataType.Value(name), dims=shape)
    if raw:
        tensor.raw_data = b""
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="'w'"):
            _import_with(tensor)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_too_many_bytes() -> None:
    tensor = numpy_helper.from_array(np.zeros(5, np.float32), "w")
    tensor.dims[:] = [4]
    with pytest.raises(ModelError, match=r"'w': its stored bytes do not fit float32 \[4\]"):
        _import_with(tensor)


def test_unknown_element_types() -> None:
    with pytest.raises(ModelError, match="'w': element type 99 is not one"):
        _import_with(TensorProto(name="w", data_type=99, dims=[1], raw_data=b"0000"))
    model = proto("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(ModelError, match="'x': element type 99 is not one"):
        import_model(model)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(proto(TEXT).SerializeToString().replace(b"\x01a", b"\x01\xff"))
    assert "is not UTF-8 text" in _refused(path)


def test_constant_nodes_that_say_nothing() -> None:
    model = proto("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.node.append(helper.make_node("Constant", [], []))
    model.graph.node.append(helper.make_node("Constant", [], [], value_float=1.0))
    model.graph.node.append(helper.make_node("Constant", [], [""], value_float=1.0))
    assert [node.op for node in import_model(model).graph.nodes] == ["Relu"]
