"""One command, unlabelled images, and a network that is hardly worse than before."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import unlabelled
from benchmarks.subjects.evaluate import top1
from benchmarks.subjects.subject import Samples
from tests.conftest import fetched

pytestmark = pytest.mark.slow

SEEN = 1000


def test_a_pruned_network_comes_back_to_three_points_on_images_it_never_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half the images and fewer epochs than `benchmarks.unlabelled`, which takes minutes."""
    monkeypatch.setattr(unlabelled, "IMAGES", SEEN)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    subject = fetched("resnet20")
    images = unlabelled.draw(subject / "training.npz", 0, tmp_path)
    with np.load(images) as arrays:
        assert [len(arrays[name]) for name in arrays.files] == [SEEN]
    passes = (*unlabelled.PRUNED, "distill:epochs=5")
    made = unlabelled.compress(subject / "model.onnx", images, passes, 0, tmp_path / "small.onnx")
    assert "at step" in made.told
    with np.load(subject / "test.npz") as arrays:
        name = next(each for each in arrays.files if each != "labels")
        unseen = Samples(inputs={name: arrays[name][:2000]}, labels=arrays["labels"][:2000])
    before, after = (top1(path, unseen) for path in (subject / "model.onnx", made.path))
    assert made.path.stat().st_size < 0.8 * (subject / "model.onnx").stat().st_size
    assert after >= before - 3
