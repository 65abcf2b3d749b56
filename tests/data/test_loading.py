import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from onnx import TensorProto, numpy_helper

from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.errors import DataError
from onnxcompress.runtime.session import TensorSignature

from .samples import X_ONLY, rows, samples_of, tensor


def _error(spec: object, signature: Sequence[TensorSignature] = X_ONLY) -> str:
    with pytest.raises(DataError) as error:
        list(load_dataset(str(spec), signature).batches(4))
    assert "\n" not in str(error.value)
    return str(error.value)


def _savez(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_one_file(tmp_path: Path) -> None:
    path = _savez(tmp_path / "d.npz", x=rows(5), labels=np.arange(5), other=np.zeros(2))
    dataset = load_dataset(str(path), X_ONLY)
    assert len(dataset) == 5
    assert dataset.has_labels
    np.testing.assert_array_equal(dataset.labels, np.arange(5))
    batches = list(dataset.batches(2))
    assert [batch.count for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([b.feeds["x"] for b in batches]), rows(5))
    np.testing.assert_array_equal(batches[1].labels, [2, 3])


def test_a_compressed_file(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.asfortranarray(rows(5)))
    (batch,) = load_dataset(str(tmp_path / "d.npz"), X_ONLY).batches(8)
    np.testing.assert_array_equal(batch.feeds["x"], rows(5))
    assert batch.labels is None


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number, start in (("10", 4), ("2", 2), ("1", 0)):
        _savez(tmp_path / f"part{number}.npz", x=rows(2, start))
    batches = list(load_dataset(str(tmp_path), X_ONLY).batches(4))
    assert [samples_of(batch.feeds) for batch in batches] == [[0, 1, 2, 3], [4, 5]]


def test_an_input_called_labels_is_an_input(tmp_path: Path) -> None:
    signature = (*X_ONLY, tensor("labels", np.int64, "N"))
    path = _savez(tmp_path / "d.npz", x=rows(2), labels=np.array([7, 8]))
    dataset = load_dataset(str(path), signature)
    assert not dataset.has_labels
    assert dataset.labels is None
    np.testing.assert_array_equal(next(dataset.batches(2)).feeds["labels"], [7, 8])


def test_a_scalar_goes_with_every_sample(tmp_path: Path) -> None:
    signature = (*X_ONLY, tensor("rate", np.int64))
    path = _savez(tmp_path / "d.npz", x=rows(3), rate=np.array(16000))
    batches = list(load_dataset(str(path), signature).batches(2))
    assert [batch.feeds["rate"].shape for batch in batches] == [(), ()]
    assert [int(batch.feeds["rate"]) for batch in batches] == [16000, 16000]


# What cannot be opened.


def test_nothing_there(tmp_path: Path) -> None:
    assert "no such file or folder" in _error(tmp_path / "none.npz")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "neither .npz files nor input_0.pb" in _error(tmp_path)


def test_not_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(b"hello")
    assert "not an .npz file" in _error(path)


def test_a_single_array_without_a_name(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", rows(2))
    assert "a single array without a name" in _error(tmp_path / "d.npy")


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{}, []], dtype=object))
    message = _error(tmp_path / "d.npz")
    assert "'x' holds pickled Python objects, which are never loaded" in message


# What does not fit the inputs.


def test_a_missing_input(tmp_path: Path) -> None:
    signature = (*X_ONLY, tensor("mask", np.int64, "N"))
    message = _error(_savez(tmp_path / "d.npz", x=rows(2), msk=np.ones(2)), signature)
    assert "no array for input 'mask'; the model wants 'x', 'mask', found 'msk', 'x'" in message


def test_a_wrong_rank(tmp_path: Path) -> None:
    message = _error(_savez(tmp_path / "d.npz", x=rows(2)[0]))
    assert "input 'x' has shape (3), expected (samples, 3); the first axis counts" in message


def test_a_wrong_axis(tmp_path: Path) -> None:
    message = _error(_savez(tmp_path / "d.npz", x=np.ones((2, 4), np.float32)))
    assert "input 'x' has shape (2, 4), expected (samples, 3)" in message


def test_pixels_for_a_float_input(tmp_path: Path) -> None:
    message = _error(_savez(tmp_path / "d.npz", x=np.ones((2, 3), np.uint8)))
    assert "input 'x' is uint8, the model expects float32; prepare it as in training" in message


def test_no_samples(tmp_path: Path) -> None:
    assert "holds no samples" in _error(_savez(tmp_path / "d.npz", x=rows(0)))
    np.savez(tmp_path / "e.npz")
    assert "it holds no arrays" in _error(tmp_path / "e.npz")


def test_different_counts(tmp_path: Path) -> None:
    message = _error(_savez(tmp_path / "d.npz", x=rows(2), labels=np.arange(3)))
    assert "different numbers of samples (x: 2, labels: 3)" in message
    message = _error(_savez(tmp_path / "e.npz", x=rows(2), labels=np.array(1)))
    assert "labels is a single value" in message


def test_labels_in_some_files_only(tmp_path: Path) -> None:
    _savez(tmp_path / "a.npz", x=rows(2), labels=np.arange(2))
    _savez(tmp_path / "b.npz", x=rows(2))
    assert "b.npz: it has no labels, while other parts" in _error(tmp_path)


def test_inputs_that_disagree_about_the_batch(tmp_path: Path) -> None:
    signature = (tensor("x", np.float32, 1, 3), tensor("s", np.float32, 2, 1))
    path = _savez(tmp_path / "d.npz", x=rows(2), s=np.ones((2, 1), np.float32))
    assert "disagree about the batch size (x: 1, s: 2)" in _error(path, signature)


@pytest.mark.parametrize(("value", "told"), [(np.nan, "NaN"), (-np.inf, "an infinite value")])
def test_values_that_prove_nothing(tmp_path: Path, value: float, told: str) -> None:
    x = rows(6)
    x[4, 1] = x[5, 0] = value
    path = _savez(tmp_path / "d.npz", x=x)
    dataset = load_dataset(str(path), X_ONLY)
    assert len(list(dataset.take([0, 1, 2, 3]).batches(2))) == 2
    assert f"d.npz: input 'x' holds {told} in sample 4;" in _error(path)


# A function.


def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> str:
    (tmp_path / f"{name}.py").write_text(f"import numpy as np\ndef give():\n{body}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return f"{name}:give"


def test_a_function_yields_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = (
        "  x = np.zeros((2, 3))\n"
        "  for i in range(3):\n"
        "    x[:] = np.arange(6).reshape(2, 3) + 6 * i\n"
        "    yield {'x': x, 'labels': [i, i]}\n"
    )
    before = list(sys.path)
    dataset = load_dataset(_module(tmp_path, monkeypatch, "gives_parts", body), X_ONLY)
    assert sys.path == before
    assert [samples_of(batch.feeds) for batch in dataset.batches(4)] == [[0, 1, 2, 3], [4, 5]]
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("  raise ValueError('broken\\nreally')\n", "failed: ValueError: broken"),
        ("  yield {'x': np.ones((1, 3))}\n  raise KeyError('k')\n", "failed: KeyError: 'k'"),
        ("  yield 3\n", "int is not a dictionary"),
        ("  return 3\n", "returned int"),
        ("  return iter(())\n", "gave no samples"),
        ("  return {'y': np.ones(3)}\n", "(item 0): no array for input 'x'"),
    ],
)
def test_a_function_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, told: str
) -> None:
    assert told in _error(_module(tmp_path, monkeypatch, "does_not_give", body))


def test_a_function_that_is_not_there() -> None:
    assert "importing it failed: ModuleNotFoundError" in _error("no_such_module_x:f")
    assert "json has no function 'nothing'" in _error("json:nothing")


# ONNX test sets.


def _test_set(folder: Path, *arrays: np.ndarray, names: tuple[str, ...] = ("", "")) -> Path:
    folder.mkdir(parents=True)
    for index, array in enumerate(arrays):
        data = numpy_helper.from_array(array, names[index]).SerializeToString()
        (folder / f"input_{index}.pb").write_bytes(data)
    return folder


TWO = (tensor("x", np.float32, "N", 3), tensor("n", np.int64, "N"))


def test_a_test_set_is_one_sample_fed_as_it_is(tmp_path: Path) -> None:
    for number in (0, 10, 2):
        _test_set(tmp_path / f"test_data_set_{number}", rows(2, number), np.array([1, 2]))
    for spec, count in ((tmp_path, 3), (tmp_path / "test_data_set_2", 1)):
        dataset = load_dataset(str(spec), TWO)
        batches = list(dataset.batches(8))
        assert len(dataset) == len(batches) == count
        assert all(batch.whole and batch.count == 1 for batch in batches)
    starts = [batch.feeds["x"][0, 0] / 3 for batch in load_dataset(str(tmp_path), TWO).batches(1)]
    assert starts == [0, 2, 10]


def test_tensors_are_matched_by_name_first(tmp_path: Path) -> None:
    folder = _test_set(tmp_path / "s", np.array([1, 2]), rows(2), names=("n", "x"))
    (batch,) = load_dataset(str(folder), TWO).batches(1)
    np.testing.assert_array_equal(batch.feeds["x"], rows(2))
    np.testing.assert_array_equal(batch.feeds["n"], [1, 2])


def test_a_test_set_that_lacks_an_input(tmp_path: Path) -> None:
    folder = _test_set(tmp_path / "s", rows(2))
    assert "input_1.pb is missing; the model has 2 inputs" in _error(folder, TWO)


def test_a_test_set_of_another_shape(tmp_path: Path) -> None:
    folder = _test_set(tmp_path / "s", rows(2))
    signature = (tensor("x", np.float32, 1, 3),)
    assert "input 'x' has shape (2, 3), expected (1, 3)" in _error(folder, signature)


def test_a_test_set_that_is_none(tmp_path: Path) -> None:
    folder = _test_set(tmp_path / "s", rows(2))
    (folder / "input_0.pb").write_bytes(b"\xff\xff\xff")
    assert "input_0.pb: not an ONNX tensor" in _error(folder)


def test_a_test_set_must_not_point_elsewhere(tmp_path: Path) -> None:
    folder = _test_set(tmp_path / "s", rows(2))
    proto = TensorProto(data_type=TensorProto.FLOAT, dims=[2, 3])
    proto.data_location = TensorProto.EXTERNAL
    proto.external_data.add(key="location", value="../../secret")
    (folder / "input_0.pb").write_bytes(proto.SerializeToString())
    assert "its data are in another file, which is not followed" in _error(folder)


def test_a_test_set_with_nan(tmp_path: Path) -> None:
    folder = _test_set(tmp_path / "s", np.full((2, 3), np.nan, np.float32))
    assert "input 'x' holds NaN; nothing" in _error(folder)


def test_arrays_in_memory() -> None:
    dataset = dataset_of({"x": rows(3), "labels": np.arange(3)}, X_ONLY)
    assert len(dataset) == 3
    with pytest.raises(DataError, match="the arrays: no array for input 'x'"):
        dataset_of({}, X_ONLY)


def test_a_function_may_name_labels_and_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (
        "  yield {'x': np.ones((2, 3)), 'labels.y': [0.5, 1], 'film': ['a', 'b'], 'ids': [1, 2]}\n"
    )
    dataset = load_dataset(
        _module(tmp_path, monkeypatch, "gives_named", body), X_ONLY, group_by="film"
    )
    np.testing.assert_array_equal(dataset.labels_of("y"), [0.5, 1])
    assert np.asarray(dataset.groups).tolist() == ["a", "b"]
    assert dataset.unused == ("ids",)


def test_memory_that_labels_need_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _savez(tmp_path / "d.npz", x=rows(2), y=np.zeros((2, 1000)), film=np.zeros(2))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16_024))
    dataset = load_dataset(str(path), X_ONLY, group_by="film")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=15))
    with pytest.raises(DataError, match="its arrays need"):
        _ = dataset.groups
    with pytest.raises(DataError, match="its arrays need"):
        load_dataset(str(path), X_ONLY)


def test_a_function_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "    while True:\n        yield {'x': np.zeros((1, 3), np.float32)}\n"
    spec = _module(tmp_path, monkeypatch, "endless", body)
    monkeypatch.setattr("onnxcompress.data.loading.available_bytes", lambda: 1 << 20)
    assert "samples take more than half of the memory that is free" in _error(spec)


def test_no_name() -> None:
    assert "empty name" in _error("")
