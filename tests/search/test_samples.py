"""No sample is in two parts, nor the like of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.data.splitting import Shares
from onnxcompress.errors import DataError
from onnxcompress.ir import io
from onnxcompress.runtime.session import Session
from onnxcompress.search.samples import Samples, data_notes, load_samples, load_to_judge
from tests.helpers import parse

MODEL = "g (float[N,1] x) => (float[N,1] y) { y = Relu(x) }"


@pytest.fixture
def model(tmp_path: Path) -> Session:
    io.save(parse(MODEL), tmp_path / "model.onnx")
    return Session(tmp_path / "model.onnx")


def _data(folder: Path, count: int, name: str = "data", **others: np.ndarray) -> str:
    x = others.pop("x", np.arange(count, dtype=np.float32)[:, None])
    np.savez(folder / f"{name}.npz", x=x, **others)
    return str(folder / f"{name}.npz")


def _ids(data: Dataset | None) -> set[float]:
    assert data is not None
    return {float(each) for batch in data.batches(7) for each in batch.feeds["x"][:, 0]}


def _parts(samples: Samples) -> list[set[float]]:
    return [_ids(each) for each in (samples.fit, samples.choosing, samples.judging)]


@pytest.mark.parametrize(
    ("count", "sizes", "calibration"),
    [
        (12, [6, 2, 4], 6),
        (30, [15, 6, 9], 15),
        (100, [50, 20, 30], 50),
        (2000, [1000, 400, 600], 200),
        (12_000, [6000, 2000, 4000], 200),
    ],
)
def test_parts_share_nothing(
    count: int, sizes: list[int], calibration: int, model: Session, tmp_path: Path
) -> None:
    samples = load_samples(_data(tmp_path, count), model, seed=3)
    parts = _parts(samples)
    assert [len(each) for each in parts] == sizes
    assert set.union(*parts) == set(range(count))
    assert len(_ids(samples.calibration)) == calibration
    assert _ids(samples.calibration) <= parts[0]
    report = samples.report
    found = (report.training_samples, report.choosing_samples, report.evaluation_samples)
    assert list(found) == sizes
    assert report.validation_samples == report.choosing_samples
    assert report.calibration_samples == calibration
    assert report.groups == count
    few = f"judged on {sizes[2]} samples only; mind the interval of the drop"
    assert report.caveat == (few if sizes[2] < 100 else None)


@pytest.mark.parametrize("count", [1, 4, 11])
def test_few_samples_do_everything_and_say_so(count: int, model: Session, tmp_path: Path) -> None:
    samples = load_samples(_data(tmp_path, count), model, seed=0)
    assert samples.choosing is samples.judging is samples.fit is samples.calibration
    assert not samples.are_separate
    assert len(samples.judging) == count
    assert samples.report.caveat == (
        f"{count} samples are too few to split (12 are enough): fitted, chosen by and judged on "
        "the same"
    )


def test_the_split_is_the_users(model: Session, tmp_path: Path) -> None:
    source = _data(tmp_path, 10_000)
    parts = _parts(load_samples(source, model, seed=0, split=Shares.parse("20/60/20")))
    assert [len(each) for each in parts] == [2000, 6000, 2000]


def test_labels_are_in_proportion(model: Session, tmp_path: Path) -> None:
    labels = np.array(["a"] * 60 + ["b"] * 40)
    samples = load_samples(_data(tmp_path, 100, labels=labels), model, seed=0)
    mixes = [
        np.unique(np.asarray(part.labels), return_counts=True)[1].tolist()
        for part in (samples.fit, samples.choosing, samples.judging)
        if part is not None
    ]
    assert mixes == [[30, 20], [12, 8], [18, 12]]


def test_copies_stay_on_one_side(model: Session, tmp_path: Path) -> None:
    """One content in three: 100 samples are 34 groups."""
    x = (np.arange(100, dtype=np.float32) // 3)[:, None]
    samples = load_samples(_data(tmp_path, 100, x=x), model, seed=0)
    parts = _parts(samples)
    assert sum(map(len, parts)) == 34 == samples.report.groups
    sizes = [len(part) for part in (samples.fit or [], samples.choosing, samples.judging)]
    assert sum(sizes) == 100
    assert all(abs(size - want) <= 2 for size, want in zip(sizes, (50, 20, 30), strict=True))


def test_copies_of_few_cannot_be_split(model: Session, tmp_path: Path) -> None:
    samples = load_samples(_data(tmp_path, 40, x=np.ones((40, 1), np.float32)), model, seed=0)
    assert samples.choosing is samples.judging
    caveat = samples.report.caveat
    assert caveat is not None and caveat.startswith("the samples are copies of 1, too few to split")


def test_groups_stay_on_one_side(model: Session, tmp_path: Path) -> None:
    speaker = np.array([f"s{number % 10}" for number in range(100)])
    source = _data(tmp_path, 100, speaker=speaker)
    samples = load_samples(source, model, seed=0, group_by="speaker")
    speakers = [{int(each) % 10 for each in part} for part in _parts(samples)]
    assert [len(each) for each in speakers] == [5, 2, 3]
    assert set.union(*speakers) == set(range(10))
    assert samples.report.groups == 10
    assert samples.report.unused == ()
    torn = _parts(load_samples(source, model, seed=0))
    assert sum(len({int(each) % 10 for each in part}) for part in torn) > 10


def test_too_few_groups_are_an_error(model: Session, tmp_path: Path) -> None:
    source = _data(tmp_path, 100, film=np.arange(100) % 2)
    with pytest.raises(DataError, match=r"by 'film'.* fall into 2 group\(s\), too few for 3 parts"):
        load_samples(source, model, seed=0, group_by="film")


def test_training_fits_and_the_data_are_split_in_two(model: Session, tmp_path: Path) -> None:
    training = _data(tmp_path, 500, "training", x=np.arange(90, 590, dtype=np.float32)[:, None])
    samples = load_samples(_data(tmp_path, 100), model, seed=0, training=training)
    fit, choosing, judging = _parts(samples)
    assert fit == set(range(100, 590))
    assert (len(choosing), len(judging)) == (40, 60)
    assert choosing | judging == set(range(100))
    assert samples.report.calibration_samples == 200
    assert samples.report.training_samples == 490
    caveat = samples.report.caveat
    assert caveat is not None
    assert caveat.endswith("10 samples of --training are in --data too and were left out")


def test_training_holds_no_group_of_the_data(model: Session, tmp_path: Path) -> None:
    x = np.arange(200, 250, dtype=np.float32)[:, None]
    training = _data(tmp_path, 50, "training", x=x, film=np.arange(50) % 25)
    source = _data(tmp_path, 100, film=np.arange(100) % 20)
    samples = load_samples(source, model, seed=0, training=training, group_by="film")
    assert {each % 25 for each in _ids(samples.fit)} == {20, 21, 22, 23, 24}
    everything = _data(tmp_path, 20, "training", film=np.arange(20) % 20)
    with pytest.raises(DataError, match="all its samples are in --data"):
        load_samples(source, model, seed=0, training=everything, group_by="film")


def test_few_samples_beside_training(model: Session, tmp_path: Path) -> None:
    training = _data(tmp_path, 5, "training", x=np.arange(90, 95, dtype=np.float32)[:, None])
    samples = load_samples(_data(tmp_path, 8), model, seed=0, training=training)
    assert samples.choosing is samples.judging
    assert _ids(samples.fit) == set(range(90, 95))
    caveat = samples.report.caveat
    assert caveat is not None and caveat.endswith("chosen by and judged on the same")


@pytest.mark.parametrize(
    ("data", "options", "told"),
    [
        (True, {"split": Shares(0, 0.4, 0.6)}, "split in three.* not 40/60"),
        (True, {"split": Shares(), "training": "t"}, "split in two.* not 50/20/30"),
        (True, {"shapes": {"x": (1, 1)}}, "the data have their own"),
        (False, {"training": "t"}, "judge on others with --data"),
        (False, {"split": Shares()}, "--split says how to split the data, and none was given"),
        (False, {"group_by": "film"}, "--group-by says how"),
    ],
)
def test_what_does_not_go_together(
    data: bool, options: dict[str, object], told: str, model: Session, tmp_path: Path
) -> None:
    source = _data(tmp_path, 20) if data else None
    with pytest.raises(DataError, match=told):
        load_samples(source, model, seed=0, **options)  # type: ignore[arg-type]


def test_to_judge_takes_all(model: Session, tmp_path: Path) -> None:
    samples = load_to_judge(_data(tmp_path, 100), model, seed=0)
    assert samples.fit is samples.calibration is None
    assert len(samples.judging) == 100
    assert samples.report.caveat is None
    assert (samples.report.choosing_samples, samples.report.groups) == (0, 0)


def test_notes_name_what_was_taken_and_what_was_not(model: Session, tmp_path: Path) -> None:
    source = _data(tmp_path, 100, target=np.arange(100) % 2, ids=np.arange(100), z=np.zeros(2))
    samples = load_to_judge(source, model, seed=0)
    assert samples.report.labelled
    assert list(data_notes(samples.report)) == [
        "'target' in the data was taken as labels",
        "'ids' in the data is no input and was not used",
        "'z' in the data is no input and was not used",
    ]


def test_labels_of_an_output_that_is_none(model: Session, tmp_path: Path) -> None:
    source = _data(tmp_path, 20, **{"labels.y": np.arange(20)})
    assert load_to_judge(source, model, seed=0).report.labelled
    source = _data(tmp_path, 20, **{"labels.z": np.arange(20)})
    with pytest.raises(DataError, match=r"'labels.z' names no output; the model has 'y'"):
        load_to_judge(source, model, seed=0)


def test_made_up_samples_say_so(model: Session) -> None:
    samples = load_samples(None, model, seed=0)
    assert samples.fit is None and samples.calibration is None
    assert samples.choosing is samples.judging
    assert len(samples.judging) == samples.report.evaluation_samples == 8
    assert samples.report.shapes_guessed == ()
    (note,) = data_notes(samples.report)
    assert "samples were made up" in note


def test_samples_that_are_not_finite_are_left_out_and_named(model: Session, tmp_path: Path) -> None:
    x = np.arange(30, dtype=np.float32)[:, None]
    x[3], x[20] = np.nan, np.inf
    labels = np.arange(30, dtype=np.float32)
    labels[7] = np.nan
    source = _data(tmp_path, 30, x=x, labels=labels)
    samples = load_samples(source, model, seed=0)
    assert set.union(*_parts(samples)) == set(range(30)) - {3, 7, 20}
    assert samples.report.left_out == (
        f"{source}: sample 3, 'x' holds NaN or infinite values",
        f"{source}: sample 7, 'labels' holds NaN or infinite values",
        f"{source}: sample 20, 'x' holds NaN or infinite values",
    )
    (note,) = [each for each in data_notes(samples.report) if "left out" in each]
    assert note.startswith("3 samples of the data were left out: ")
    judged = load_to_judge(source, model, seed=0)
    assert _ids(judged.judging) == set(range(30)) - {3, 7, 20}


def test_it_is_an_error_if_none_remains(model: Session, tmp_path: Path) -> None:
    source = _data(tmp_path, 4, x=np.full((4, 1), np.nan, np.float32))
    with pytest.raises(DataError, match=r"every sample holds NaN.*sample 0, 'x' holds NaN"):
        load_samples(source, model, seed=0)


def test_a_batch_axis_that_works_at_one_alone(tmp_path: Path) -> None:
    text = """g (float[N, 6] x) => (float[M, 2] y) <int64[2] s = {1, 6},
        float[6, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { r = Reshape(x, s)
        y = MatMul(r, w) }"""
    session = Session(io.to_bytes(parse(text)))
    x = np.arange(240, dtype=np.float32).reshape(40, 6)
    samples = load_samples(_data(tmp_path, 40, x=x), session, seed=0)
    assert samples.report.one_at_a_time
    assert samples.calibration is not None
    for part in (samples.calibration, samples.choosing, samples.judging):
        assert {batch.feeds["x"].shape for batch in part.batches(8)} == {(1, 6)}
        assert part.batch_size(8) == 1
    assert any("runs on one alone" in note for note in data_notes(samples.report))
    free = Session(io.to_bytes(parse(text.replace("{1, 6}", "{-1, 6}"))))
    others = load_samples(_data(tmp_path, 40, x=x), free, seed=0)
    assert not others.report.one_at_a_time
    assert next(others.judging.batches(8)).count == 8
