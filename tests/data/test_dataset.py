from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.loading import dataset_of, load_dataset
from onnxcompress.data.parts import NpzPart, Part, WholePart
from onnxcompress.errors import DataError

from .samples import X_ONLY, rows, samples_of, tensor

FREE = (tensor("x", np.float32, "N", None),)


def _folder(tmp_path: Path, *counts: int, labels: bool = False) -> Path:
    start = 0
    for number, count in enumerate(counts):
        arrays = {"x": rows(count, start)}
        if labels:
            arrays["labels"] = np.arange(start, start + count)
        np.savez(tmp_path / f"{number}.npz", allow_pickle=False, **arrays)
        start += count
    return tmp_path


def _counts(dataset: Dataset) -> list[int]:
    assert dataset.labels is not None
    return [int(count) for count in np.bincount(dataset.labels, minlength=3)]


def _order(dataset: Dataset, size: int = 3) -> list[int]:
    return [sample for batch in dataset.batches(size) for sample in samples_of(batch.feeds)]


def test_batches_run_across_files_of_one_shape(tmp_path: Path) -> None:
    dataset = load_dataset(str(_folder(tmp_path, 1, 4, 2, labels=True)), X_ONLY)
    batches = list(dataset.batches(3))
    assert [samples_of(batch.feeds) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [np.asarray(batch.labels).tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.count for batch in batches] == [3, 3, 1]


def test_shapes_are_never_mixed(tmp_path: Path) -> None:
    for number, width in enumerate((3, 5, 5, 3)):
        np.savez(tmp_path / f"{number}.npz", x=np.full((2, width), number, np.float32))
    shapes = [b.feeds["x"].shape for b in load_dataset(str(tmp_path), FREE).batches(8)]
    assert shapes == [(2, 3), (4, 5), (2, 3)]


def test_different_scalars_are_never_mixed(tmp_path: Path) -> None:
    signature = (*X_ONLY, tensor("rate", np.int64))
    for number, rate in enumerate((8, 8, 16)):
        np.savez(tmp_path / f"{number}.npz", x=rows(1), rate=np.array(rate))
    batches = load_dataset(str(tmp_path), signature).batches(8)
    assert [(b.count, int(b.feeds["rate"])) for b in batches] == [(2, 8), (1, 16)]


def test_a_fixed_batch_size_is_kept_and_filled_up() -> None:
    signature = (tensor("x", np.float32, 4, 3),)
    dataset = dataset_of({"x": rows(6), "labels": np.arange(6)}, signature)
    first, last = dataset.batches(1)
    assert samples_of(first.feeds) == [0, 1, 2, 3]
    assert samples_of(last.feeds) == [4, 5, 5, 5]
    assert last.count == 2
    np.testing.assert_array_equal(last.labels, [4, 5])


def test_only_one_file_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = NpzPart.arrays

    def counted(part: NpzPart) -> dict[str, np.ndarray]:
        reads.append(Path(part.origin).stem)
        return read(part)

    monkeypatch.setattr(NpzPart, "arrays", counted)
    dataset = load_dataset(str(_folder(tmp_path, 2, 2, 2, labels=True)), X_ONLY)
    assert len(dataset) == 6
    assert dataset.labels is not None
    assert reads == []
    batches = dataset.batches(2)
    next(batches)
    assert reads == ["0"]
    assert _order(dataset.take([2, 3])) == [2, 3]
    list(dataset.batches(1))
    assert reads == ["0", "1", "0", "1", "2"]


def test_take_keeps_the_order_given(tmp_path: Path) -> None:
    dataset = load_dataset(str(_folder(tmp_path, 3, 3, labels=True)), X_ONLY)
    view = dataset.take([5, 0, 2, 2, 3])
    assert len(view) == 5
    assert _order(view) == [5, 0, 2, 2, 3]
    np.testing.assert_array_equal(view.labels, [5, 0, 2, 2, 3])
    assert _order(view.take([4, 1])) == [3, 0]
    with pytest.raises(DataError, match="no samples were chosen"):
        dataset.take([])


def test_taking_copies_nothing() -> None:
    x = rows(6)
    (batch,) = dataset_of({"x": x}, X_ONLY).take([1, 2, 3]).batches(3)
    assert np.shares_memory(batch.feeds["x"], x)


def test_split_is_disjoint_seeded_and_complete(tmp_path: Path) -> None:
    dataset = load_dataset(str(_folder(tmp_path, 7, 13)), X_ONLY)
    first, rest = dataset.split(5, seed=1)
    assert (len(first), len(rest)) == (5, 15)
    assert sorted(_order(first) + _order(rest)) == list(range(20))
    assert _order(first) == sorted(_order(first))
    assert _order(dataset.split(5, seed=1)[0]) == _order(first)
    assert _order(dataset.split(5, seed=2)[0]) != _order(first)


def test_split_keeps_the_mix_of_labels() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    dataset = dataset_of({"x": rows(100), "labels": labels}, X_ONLY)
    first, rest = dataset.split(20, seed=3)
    assert _counts(first) == [12, 6, 2]
    assert _counts(rest) == [48, 24, 8]
    assert _counts(dataset.split(7, seed=3)[0]) == [4, 2, 1]


def test_split_by_float_labels_is_plain() -> None:
    dataset = dataset_of({"x": rows(10), "labels": np.linspace(0, 1, 10)}, X_ONLY)
    first, rest = dataset.split(4, seed=0)
    assert sorted(_order(first) + _order(rest)) == list(range(10))


@pytest.mark.parametrize("calibration", [0, 3, 4])
def test_split_leaves_something_on_both_sides(calibration: int) -> None:
    with pytest.raises(DataError, match=f"cannot set {calibration} samples aside.*hold 3"):
        dataset_of({"x": rows(3)}, X_ONLY).split(calibration, seed=0)


def test_labels_of_differing_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=rows(2), labels=np.zeros((2, 3), int))
    np.savez(tmp_path / "1.npz", x=rows(2), labels=np.zeros((2, 4), int))
    with pytest.raises(DataError, match=r"labels of the parts differ in shape: \(3,\) and \(4,\)"):
        _ = load_dataset(str(tmp_path), X_ONLY).labels


def test_labels_that_are_not_finite() -> None:
    dataset = dataset_of({"x": rows(2), "labels": np.array([0.0, np.nan])}, X_ONLY)
    with pytest.raises(DataError, match="labels hold NaN"):
        _ = dataset.labels


def test_a_batch_is_not_empty() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        next(dataset_of({"x": rows(2)}, X_ONLY).batches(0))


def test_no_parts() -> None:
    with pytest.raises(DataError, match="the data hold no samples"):
        Dataset([], X_ONLY)


def test_whole_feeds_can_be_taken_and_split() -> None:
    parts: list[Part] = [WholePart({"x": rows(2, i)}, f"feed {i}") for i in range(4)]
    dataset = Dataset(parts, (tensor("x", np.float32, 2, 3),))
    assert [b.feeds["x"][0, 0] for b in dataset.take([3, 1]).batches(2)] == [9, 3]
    assert [len(half) for half in dataset.split(1, 0)] == [1, 3]


def test_fingerprint_tells_content_apart_and_not_places(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = load_dataset(str(_folder(tmp_path / "a", 2, 3, labels=True)), X_ONLY)
    same = load_dataset(str(_folder(tmp_path / "b", 2, 3, labels=True)), X_ONLY)
    assert one.fingerprint() == same.fingerprint()
    assert len(one.fingerprint()) == 64
    prints = {
        one.fingerprint(),
        one.take([0, 1, 2, 3]).fingerprint(),
        one.take([4, 3, 2, 1, 0]).fingerprint(),
        dataset_of({"x": rows(5)}, X_ONLY).fingerprint(),
        dataset_of({"x": rows(5), "labels": np.arange(5)}, X_ONLY).fingerprint(),
        dataset_of({"x": rows(5), "labels": np.arange(5) + 1}, X_ONLY).fingerprint(),
    }
    assert len(prints) == 6


def test_fingerprint_of_text() -> None:
    signature = (tensor("s", object, "N"),)
    prints = {dataset_of({"s": np.array(t)}, signature).fingerprint() for t in (["a", "b"], ["ab"])}
    assert len(prints) == 2
