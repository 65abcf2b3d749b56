"""Weights in files beside the model: lazy, checked, and never from outside the model's folder."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcompress.errors import ModelError, OutputError
from onnxcompress.ir import elements, io
from onnxcompress.ir.from_proto import import_model
from onnxcompress.ir.model import Constant, Model
from onnxcompress.ir.stored import MappedArray, PackedArray
from onnxcompress.measure.size import file_bytes
from onnxcompress.runtime.session import Session
from tests.helpers import proto, run, tensor

WEIGHTS = np.random.default_rng(0).standard_normal((40, 50), np.float32)
OPSET = [helper.make_opsetid("", 21)]
X = np.random.default_rng(1).standard_normal((3, 40), np.float32)


def _message() -> onnx.ModelProto:
    model = proto("g (float[N, 40] x) => (float[N, 50] y) { h = MatMul(x, w)  y = Add(h, b) }")
    model.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "w"))
    model.graph.initializer.append(numpy_helper.from_array(WEIGHTS[0], "b"))
    return model


def _written(folder: Path) -> Path:
    """A model as onnx itself writes external data."""
    path = folder / "model.onnx"
    onnx.save(_message(), path, save_as_external_data=True, location="w.bin", size_threshold=100)
    return path


def _weight(model: Model, name: str = "w") -> Constant:
    found = tensor(model, name)
    assert isinstance(found, Constant)
    return found


def test_weights_stay_on_disk_until_they_are_read(tmp_path: Path) -> None:
    model = io.load(_written(tmp_path))
    stored = _weight(model).stored
    assert isinstance(stored, MappedArray)
    assert (stored.shape, stored.dtype) == ((40, 50), np.float32)
    assert isinstance(_weight(model).values, np.memmap)
    np.testing.assert_array_equal(_weight(model).values, WEIGHTS)
    assert model.weight_bytes == WEIGHTS.nbytes + 200
    with pytest.raises(ValueError, match="read-only"):
        _weight(model).values[0] = 0


def test_from_external_to_external_and_into_one_file(tmp_path: Path) -> None:
    model = io.load(_written(tmp_path))
    (tmp_path / "out").mkdir()
    written = io.save(model, tmp_path / "out/again.onnx", external=True)
    assert [path.name for path in written] == ["again.onnx.data", "again.onnx"]
    assert written[0].stat().st_size == WEIGHTS.nbytes  # b is too small to lie outside
    single = io.save(io.load(written[1]), tmp_path / "one.onnx")
    assert single == [tmp_path / "one.onnx"]
    again = io.load(single[0])
    assert isinstance(_weight(again).stored, np.ndarray)
    np.testing.assert_array_equal(_weight(again).values, WEIGHTS)
    expected = X @ WEIGHTS + WEIGHTS[0]
    for path in (written[1], single[0]):
        np.testing.assert_allclose(Session(path).run({"x": X})["y"], expected, rtol=1e-4, atol=1e-4)


def test_what_a_tensor_says_goes_along(tmp_path: Path) -> None:
    message = _message()
    message.graph.initializer[0].doc_string = "the weight"
    message.graph.initializer[0].metadata_props.add(key="k", value="v")
    io.save(import_model(message), tmp_path / "m.onnx", external=True)
    (stored, _) = onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer
    assert stored.data_location == TensorProto.EXTERNAL
    assert (stored.doc_string, stored.metadata_props[0].value) == ("the weight", "v")
    envelope = _weight(io.load(tmp_path / "m.onnx")).envelope
    assert envelope is not None
    assert envelope.doc_string == "the weight"


def test_each_tensor_starts_on_a_boundary(tmp_path: Path) -> None:
    message = proto("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    for index in range(3):
        values = np.full(1025 + index, index, np.int8)
        message.graph.initializer.append(numpy_helper.from_array(values, f"w{index}"))
    path = tmp_path / "m.onnx"
    io.save(import_model(message), path, external=True)
    stored = onnx.load(path, load_external_data=False).graph.initializer
    places = [{entry.key: entry.value for entry in one.external_data} for one in stored]
    assert [int(place["offset"]) for place in places] == [0, 1088, 2176]
    assert [int(place["length"]) for place in places] == [1025, 1026, 1027]
    for index, one in enumerate(onnx.load(path).graph.initializer):
        np.testing.assert_array_equal(numpy_helper.to_array(one), index)


def test_large_models_go_out_with_external_data_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = import_model(_message())
    monkeypatch.setattr(io, "SINGLE_FILE_LIMIT", model.weight_bytes)
    assert len(io.save(model, tmp_path / "fits.onnx")) == 1
    monkeypatch.setattr(io, "SINGLE_FILE_LIMIT", model.weight_bytes - 1)
    assert len(io.save(model, tmp_path / "large.onnx")) == 2
    np.testing.assert_array_equal(_weight(io.load(tmp_path / "large.onnx")).values, WEIGHTS)


def test_more_than_a_message_can_hold_is_refused_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "PROTOBUF_LIMIT", 1000)
    model = import_model(_message())
    with pytest.raises(ModelError, match="larger than the 2 GiB"):
        io.to_bytes(model)
    with pytest.raises(OutputError, match="save with external data"):
        io.save(model, tmp_path / "m.onnx", external=False)
    assert not list(tmp_path.iterdir())


def test_packed_elements(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-8, 8, (31, 101)).astype(ml_dtypes.int4)
    message = proto("g () => (int4[31, 101] y) { y = Identity(w) }")
    message.graph.initializer.append(elements.from_array(values, "w"))
    written = io.save(import_model(message), tmp_path / "m.onnx", external=True)
    assert written[0].stat().st_size == (31 * 101 + 1) // 2
    stored = _weight(io.load(written[1]))
    assert isinstance(stored.stored, PackedArray)
    assert stored.nbytes == (31 * 101 + 1) // 2
    np.testing.assert_array_equal(stored.values.astype(int), values.astype(int))


def test_tensors_of_attributes_are_read_in(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.float32([7]).tobytes())
    message = proto("""<ir_version: 10, opset_import: ["" : 21, "f" : 1]>
        g (int64[1] n) => (float[K] y) { z = ConstantOfShape(n)  y = f.plus(z) }
        <domain: "f", opset_import: ["" : 12]> plus (a) => (b)
        { c = Constant <value = float[1] {0}> ()  b = Add(a, c) }""")
    for attribute in (
        message.graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR),
        message.functions[0].node[0].attribute[0],
    ):
        attribute.t.CopyFrom(_reference(location="w.bin", shape=[1]))
    path = tmp_path / "m.onnx"
    path.write_bytes(message.SerializeToString())
    model = io.load(path)
    (tmp_path / "w.bin").unlink()
    np.testing.assert_array_equal(run(model, n=np.array([3])), [14, 14, 14])


def _reference(shape: list[int], onnx_type: int = TensorProto.FLOAT, **entries: str) -> TensorProto:
    stored = TensorProto(
        name="w", dims=shape, data_type=onnx_type, data_location=TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        stored.external_data.add(key=key, value=value)
    return stored


def _load_reference(folder: Path, stored: TensorProto) -> Model:
    info = helper.make_tensor_value_info("y", stored.data_type, None)
    node = helper.make_node("Identity", ["w"], ["y"])
    graph = helper.make_graph([node], "g", [], [info], [stored])
    path = folder / "m.onnx"
    path.write_bytes(
        helper.make_model(graph, ir_version=10, opset_imports=OPSET).SerializeToString()
    )
    return io.load(path)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({}, "no location"),
        ({"location": "gone.bin"}, "'gone.bin' is missing"),
        ({"location": "."}, "is missing"),
        ({"location": "a\0b"}, "no file name"),
        ({"location": "../secret"}, "leaves the model's folder"),
        ({"location": "x/../../secret"}, "leaves the model's folder"),
        ({"location": "link"}, "leaves the model's folder"),
        ({"location": "up/secret"}, "leaves the model's folder"),
        ({"location": "/etc/hostname"}, "leaves the model's folder"),
        ({"location": "w.bin", "offset": "1"}, "beyond the end.*cut short"),
        ({"location": "w.bin", "offset": "-4"}, "beyond the end"),
        ({"location": "w.bin", "length": "12"}, "12 bytes are stored.*need 16"),
        ({"location": "w.bin", "length": "x"}, "must be integers"),
        ({"location": "short.bin"}, "beyond the end"),
    ],
)
def test_places_that_are_refused(tmp_path: Path, entries: dict[str, str], told: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(16))
    (folder / "w.bin").write_bytes(bytes(16))
    (folder / "short.bin").write_bytes(bytes(15))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(ModelError, match=told) as caught:
        _load_reference(folder, _reference([4], **entries))
    assert str(folder / "m.onnx") in str(caught.value)
    assert "'w'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_below_is_fine_and_defaults_hold(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    model = _load_reference(tmp_path, _reference([4], location="below/w.bin"))
    np.testing.assert_array_equal(run(model), [0, 1, 2, 3])


@pytest.mark.parametrize("shape", [[1 << 62, 1 << 62], [-1], [1 << 40]])
def test_shapes_that_no_file_holds(tmp_path: Path, shape: list[int]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    with pytest.raises(ModelError, match=r"beyond the end|negative"):
        _load_reference(tmp_path, _reference(shape, location="w.bin"))


def test_strings_cannot_lie_outside(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(64))  # as pointers they would crash the process
    with pytest.raises(ModelError, match="strings cannot lie in an external file"):
        _load_reference(tmp_path, _reference([2], TensorProto.STRING, location="w.bin"))


def test_sparse_tensors_cannot_lie_outside(tmp_path: Path) -> None:
    message = proto("g () => (float[4] y) { y = Identity(w) }")
    sparse = message.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(_reference([1], location="w.bin"))
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [1], [2]))
    path = tmp_path / "m.onnx"
    path.write_bytes(message.SerializeToString())
    with pytest.raises(ModelError, match="sparse tensor 'w' lies in an external file"):
        io.load(path)


def test_a_message_without_a_path_has_no_folder_to_look_in() -> None:
    message = _message()
    message.graph.initializer[0].CopyFrom(_reference([40, 50], location="w.bin"))
    with pytest.raises(ModelError, match="the model has no path"):
        import_model(message)


@pytest.mark.parametrize("onnx_type", [TensorProto.FLOAT, TensorProto.INT4])
@pytest.mark.parametrize("keep", [None, 10])
def test_data_that_vanish_after_loading(tmp_path: Path, onnx_type: int, keep: int | None) -> None:
    data = tmp_path / "w.bin"
    data.write_bytes(bytes(16))
    shape = [4 if onnx_type == TensorProto.FLOAT else 32]
    model = _load_reference(tmp_path, _reference(shape, onnx_type, location="w.bin"))
    data.unlink()
    if keep is not None:
        data.write_bytes(bytes(keep))
    with pytest.raises(ModelError, match="removed or cut short after"):
        _ = _weight(model).values
    with pytest.raises(ModelError, match="removed or cut short after"):
        io.save(model, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def _hub(root: Path, *, real_model: bool = False) -> Path:
    """A model as the Hugging Face cache lays it: links into `blobs/`, below a revision."""
    folder, blobs = root / "snapshots" / "abc" / "onnx", root / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    onnx.save(
        _message(),
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=100,
    )
    for name in ["model.onnx_data"] if real_model else ["model.onnx", "model.onnx_data"]:
        (folder / name).rename(blobs / f"blob-{name[-4:]}")
        (folder / name).symlink_to(Path("../../../blobs", f"blob-{name[-4:]}"))
    return folder / "model.onnx"


@pytest.mark.parametrize("real_model", [False, True])
def test_links_of_the_hugging_face_cache_are_followed(tmp_path: Path, real_model: bool) -> None:
    path = _hub(tmp_path / "models--a--b", real_model=real_model)
    model = io.load(path)
    np.testing.assert_array_equal(_weight(model).values, WEIGHTS)
    blobs = (tmp_path / "models--a--b" / "blobs").resolve()
    assert blobs / "blob-data" in model.files
    with pytest.raises(OutputError, match="is a file of the input model"):
        io.save(model, blobs / "blob-data")
    assert (
        file_bytes(path) == path.stat().st_size + (path.parent / "model.onnx_data").stat().st_size
    )
    io.save(model, tmp_path / "out.onnx")
    expected = X @ WEIGHTS + WEIGHTS[0]
    found = Session(tmp_path / "out.onnx").run({"x": X})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("real_model", [False, True])
def test_a_cache_link_to_another_repository_is_refused(tmp_path: Path, real_model: bool) -> None:
    path = _hub(tmp_path / "models--a--b", real_model=real_model)
    elsewhere = tmp_path / "models--c--d" / "blobs" / "blob-data"
    elsewhere.parent.mkdir(parents=True)
    (path.parent / "model.onnx_data").resolve().rename(elsewhere)
    (path.parent / "model.onnx_data").unlink()
    (path.parent / "model.onnx_data").symlink_to(elsewhere)
    with pytest.raises(ModelError, match="leaves the model's folder"):
        io.load(path)


def test_a_name_that_climbs_to_the_blobs_is_refused(tmp_path: Path) -> None:
    path = _hub(tmp_path)
    blob = path.resolve()
    message = onnx.load(path, load_external_data=False)
    for each in message.graph.initializer[0].external_data:
        if each.key == "location":
            each.value = "../../../blobs/blob-data"
    blob.write_bytes(message.SerializeToString())
    with pytest.raises(ModelError, match="leaves the model's folder"):
        io.load(path)


def test_a_link_outside_a_cache_is_refused(tmp_path: Path) -> None:
    path = _written(tmp_path)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "m").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "blobs" / "w.bin")
    moved = path.rename(tmp_path / "m" / "model.onnx")
    (tmp_path / "m" / "w.bin").symlink_to(tmp_path / "blobs" / "w.bin")
    with pytest.raises(ModelError, match="leaves the model's folder"):
        io.load(moved)
