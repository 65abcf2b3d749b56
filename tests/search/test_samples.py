"""No sample is in two parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxcompress.data.dataset import Dataset
from onnxcompress.ir import io
from onnxcompress.runtime.session import Session
from onnxcompress.search.samples import load_samples, split_off_validation
from tests.helpers import parse

MODEL = "g (float[N,1] x) => (float[N,1] y) { y = Relu(x) }"


@pytest.fixture
def model(tmp_path: Path) -> Session:
    io.save(parse(MODEL), tmp_path / "model.onnx")
    return Session(tmp_path / "model.onnx")


def _data(folder: Path, count: int) -> str:
    np.savez(folder / "data.npz", x=np.arange(count, dtype=np.float32)[:, None])
    return str(folder / "data.npz")


def _ids(data: Dataset) -> set[float]:
    return {float(each) for batch in data.batches(7) for each in batch.feeds["x"][:, 0]}


def test_calibration_validation_and_evaluation_share_nothing(
    model: Session, tmp_path: Path
) -> None:
    before = load_samples(_data(tmp_path, 100), model, calibrating=True, seed=3)
    validation, samples = split_off_validation(before, 3)
    assert samples.calibration is not None
    parts = [_ids(each) for each in (samples.calibration, validation, samples.evaluation)]
    assert [len(each) for each in parts] == [25, 37, 38]
    assert set.union(*parts) == set(range(100))
    report = samples.report
    assert (report.calibration_samples, report.validation_samples) == (25, 37)
    assert report.evaluation_samples == 38
    assert report.caveat == "judged on 38 samples only; mind the interval of the drop"


def test_validation_is_bounded(model: Session, tmp_path: Path) -> None:
    before = load_samples(_data(tmp_path, 9000), model, calibrating=True, seed=0)
    validation, samples = split_off_validation(before, 0)
    assert (len(validation), len(samples.evaluation)) == (2000, 6800)
    assert samples.report.caveat is None


@pytest.mark.parametrize("count", [None, 3, 2])
def test_what_cannot_be_split_says_so(count: int | None, model: Session, tmp_path: Path) -> None:
    source = None if count is None else _data(tmp_path, count)
    before = load_samples(source, model, calibrating=True, seed=0)
    validation, samples = split_off_validation(before, 0)
    assert validation is samples.evaluation is before.evaluation
    caveat = samples.report.caveat
    assert caveat is not None and before.report.caveat is not None
    assert caveat.startswith(before.report.caveat)
    assert caveat.endswith("tested on the samples that the result is judged on")
