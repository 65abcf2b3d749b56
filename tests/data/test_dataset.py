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
        np.savez(tmp_path / f"{number}.npz", **arrays)
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


def test_labels_of_outputs_are_told_apart(tmp_path: Path) -> None:
    for number, start in enumerate((0, 2)):
        arrays = {
            "x": rows(2, start),
            "labels.age": np.arange(start, start + 2, dtype=np.float32)[:, None],
            "labels.kind": np.array(["cat", "dog"]),
        }
        np.savez(tmp_path / f"{number}.npz", **arrays)
    dataset = load_dataset(str(tmp_path), X_ONLY)
    assert not dataset.has_labels
    assert dataset.labels is None
    assert dataset.labelled_outputs == ("age", "kind")
    np.testing.assert_array_equal(dataset.labels_of("age"), [[0], [1], [2], [3]])
    ages = dataset.take([3, 0]).labels_of("age")
    assert ages is not None and ages.ravel().tolist() == [3, 0]
    assert np.asarray(dataset.labels_of("kind")).tolist() == ["cat", "dog"] * 2
    assert dataset.labels_of("size") is None
    assert dataset.unused == ()


@pytest.mark.parametrize("name", ["y", "label", "target", "targets"])
def test_what_fits_stands_in_for_labels(name: str) -> None:
    arrays = {"x": rows(3), name: np.array([True, False, True]), "ids": np.arange(3)}
    dataset = dataset_of(arrays, X_ONLY)
    assert dataset.labels_name == name
    np.testing.assert_array_equal(dataset.labels, [True, False, True])
    assert dataset.unused == ("ids",)


@pytest.mark.parametrize(
    ("arrays", "unused"),
    [
        ({"labels": np.arange(3), "y": np.arange(3)}, ("y",)),
        ({"labels.a": np.arange(3), "y": np.arange(3)}, ("y",)),
        ({"y": np.arange(2)}, ("y",)),
        ({"y": np.array(1)}, ("y",)),
        ({"y": np.arange(3).astype("datetime64[s]")}, ("y",)),
        ({"y": np.arange(3), "target": np.arange(3)}, ("target",)),
    ],
)
def test_what_does_not_stand_in_is_named(
    arrays: dict[str, np.ndarray], unused: tuple[str, ...]
) -> None:
    dataset = dataset_of({"x": rows(3), **arrays}, X_ONLY)
    assert dataset.unused == unused
    assert dataset.labels_name == next(
        (k for k in ("labels", "y") if k not in unused and k in arrays), None
    )


def test_an_input_called_y_is_an_input() -> None:
    signature = (*X_ONLY, tensor("y", np.int64, "N"))
    dataset = dataset_of({"x": rows(2), "y": np.arange(2)}, signature)
    assert dataset.labels_name is None and dataset.unused == ()


def test_a_stand_in_that_fits_some_parts_only_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=rows(2), y=np.arange(2))
    np.savez(tmp_path / "1.npz", x=rows(3), y=np.arange(2))
    dataset = load_dataset(str(tmp_path), X_ONLY)
    assert dataset.labels_name is None and dataset.unused == ("y",)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"labels.a": np.arange(2)}, r"different numbers of samples \(x: 3, labels.a: 2\)"),
        ({"labels.a": np.array(2)}, "labels.a is a single value"),
        ({"labels": np.arange(3).astype("datetime64[s]")}, "numbers, truth values or text"),
        ({"labels": np.array([{}, 1, 2], dtype=object)}, "'labels' holds Python objects"),
        ({"y": np.array([1, np.nan, 2])}, "'y', taken as labels, hold NaN"),
    ],
)
def test_labels_that_cannot_be(arrays: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(DataError, match=told):
        _ = dataset_of({"x": rows(3), **arrays}, X_ONLY).labels
        _ = dataset_of({"x": rows(3), **arrays}, X_ONLY).labels_of("a")


def test_text_from_memory_becomes_text() -> None:
    labels = np.array(["a", "bc", "a"], dtype=object)
    dataset = dataset_of({"x": rows(3), "labels": labels}, X_ONLY)
    assert np.asarray(dataset.labels).tolist() == ["a", "bc", "a"]
    assert dataset.fingerprint() != dataset_of({"x": rows(3)}, X_ONLY).fingerprint()


def test_text_beside_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", x=rows(2), labels=np.arange(2))
    np.savez(tmp_path / "1.npz", x=rows(2), labels=np.array(["a", "b"]))
    with pytest.raises(DataError, match="labels are text in some parts of the data and numbers in"):
        _ = load_dataset(str(tmp_path), X_ONLY).labels


def test_named_labels_in_some_files_only(tmp_path: Path) -> None:
    arrays = {"x": rows(2), "labels.a": np.arange(2)}
    np.savez(tmp_path / "0.npz", **arrays)
    np.savez(tmp_path / "1.npz", x=rows(2))
    with pytest.raises(DataError, match=r"1.npz: it has no array 'labels.a', while other parts"):
        load_dataset(str(tmp_path), X_ONLY)


def test_groups(tmp_path: Path) -> None:
    for number in range(2):
        speakers = np.array([["ann"], ["bob"]]) if number else np.array(["ann", "christopher"])
        np.savez(tmp_path / f"{number}.npz", x=rows(2, 2 * number), speaker=speakers)
    dataset = load_dataset(str(tmp_path), X_ONLY, group_by="speaker")
    assert np.asarray(dataset.groups).tolist() == ["ann", "christopher", "ann", "bob"]
    assert np.asarray(dataset.take([3, 1]).groups).tolist() == ["bob", "christopher"]
    assert dataset.unused == ()
    assert load_dataset(str(tmp_path), X_ONLY).groups is None
    assert load_dataset(str(tmp_path), X_ONLY).unused == ("speaker",)


def test_an_input_may_tell_the_groups() -> None:
    dataset = dataset_of({"x": rows(2)[:, :1]}, (tensor("x", np.float32, "N", 1),), group_by="x")
    assert np.asarray(dataset.groups).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("group_by", "told"),
    [
        ("speakr", "no array 'speakr' to group by; found 'speaker', 'wide', 'x'"),
        ("wide", r"'wide', to group by, has shape \(3, 2\); one value for each of the 3 samples"),
    ],
)
def test_what_cannot_be_grouped_by(group_by: str, told: str) -> None:
    arrays = {"x": rows(3), "speaker": np.arange(3), "wide": np.zeros((3, 2))}
    with pytest.raises(DataError, match=told):
        dataset_of(arrays, X_ONLY, group_by=group_by)


def test_whole_feeds_have_no_groups() -> None:
    parts: list[Part] = [WholePart({"x": rows(2, i)}, f"feed {i}") for i in range(2)]
    with pytest.raises(DataError, match="no array 'film' to group by; found nothing beside"):
        Dataset(parts, (tensor("x", np.float32, 2, 3),), group_by="film")


def test_split_keeps_the_mix_of_text() -> None:
    labels = np.array(["a"] * 60 + ["b"] * 40)[:, None]
    dataset = dataset_of({"x": rows(100), "labels": labels}, X_ONLY)
    first, _ = dataset.split(10, seed=3)
    assert np.asarray(first.labels).ravel().tolist() == ["a"] * 6 + ["b"] * 4
