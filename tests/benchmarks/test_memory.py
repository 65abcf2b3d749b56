"""The memory promises, scaled down: what passes and calibration take, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration_memory, large_model, large_model_page
from benchmarks.child import ChildError, Outcome, run_in_child
from benchmarks.large_model_file import LargeModel
from onnxcompress.measure.memory_probe import peak_resident_bytes
from onnxcompress.runtime import check
from tests.conftest import SUBJECTS

pytestmark = pytest.mark.slow

SHARE_OF_WEIGHTS = 0.3
"""What the passes may take beyond the interpreter, of the bytes of the float weights."""


def _small(folder: Path, **options: int) -> LargeModel:
    model = LargeModel(folder=folder, **{"width": 64, "layers": 4, **options})
    model.write()
    return model


def _shrink_beyond_baseline(source: Path, output: Path) -> int:
    """Peak memory beyond that of the interpreter; runs in a child."""
    check.MAX_RUN_BYTES = 0  # a model this small would be run after each pass
    before = peak_resident_bytes()
    steps = large_model.shrink(source, output)
    assert all(not step.verification.startswith("loads") for step in steps)
    return peak_resident_bytes() - before


def test_passes_take_less_than_the_weights(tmp_path: Path) -> None:
    model = _small(tmp_path, width=1024, layers=48, factors=48)
    output = tmp_path / "result.onnx"
    beyond = run_in_child(_shrink_beyond_baseline, model.path, output).value
    assert model.weight_bytes > 200_000_000
    assert beyond < SHARE_OF_WEIGHTS * model.weight_bytes
    assert output.stat().st_size < 0.26 * model.weight_bytes


def test_the_large_model_is_computed_alike_by_numpy_and_onnxruntime(tmp_path: Path) -> None:
    model = _small(tmp_path, factors=2)
    rows = model.inputs(3)
    found = large_model.run(model.path, rows, True)
    np.testing.assert_allclose(found, model.reference(rows, rounded=False), rtol=1e-4, atol=1e-5)
    assert found.std() > 0.1


def test_measuring_a_large_model(tmp_path: Path) -> None:
    model = LargeModel(folder=tmp_path, width=64, layers=4, factors=2)
    result = large_model.measure(model)
    assert result.good
    assert 0 < result.float_error < 0.1
    changes = {step.name: step.changes for step in result.shrunk.value}
    assert min(changes[name] for name in ("fold-constants", "fold-affine", "remove-noops")) > 0
    assert changes["merge-duplicates"] > 0
    assert changes["quantize-weights"] > 0
    page = large_model_page.markdown(result, "the command")
    assert "the command" in page
    assert str(tmp_path) not in page


def test_a_folder_without_space_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--gigabytes", "1e9", "--folder", str(tmp_path)]
    assert large_model.main(arguments) == 1
    assert "free of" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_calibration_stays_below_its_limit_for_40_images() -> None:
    subject = SUBJECTS / calibration_memory.SUBJECT
    if not (subject / "model.onnx").is_file():
        pytest.skip("the subject was not fetched: python -m benchmarks.subjects fetches it")
    rise = calibration_memory.measure(subject, 40)
    assert rise.samples == 40
    assert rise.above_bytes < calibration_memory.LIMIT_BYTES
    assert rise.watched_bytes * rise.samples > 5 * calibration_memory.LIMIT_BYTES
    page = calibration_memory.markdown(rise, rise, "the command")
    assert "is below the limit" in page


def _fail() -> None:
    raise ValueError("first line\nsecond line")


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(ChildError, match=r"^ValueError: first line$"):
        run_in_child(_fail)
    outcome = run_in_child(int, "7")
    assert outcome == Outcome(value=7, seconds=outcome.seconds, peak_bytes=outcome.peak_bytes)
    assert outcome.peak_bytes > 1_000_000
