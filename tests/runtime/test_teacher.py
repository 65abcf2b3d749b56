"""What teachers say of images and of their mirror images."""

import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.ir.model import Model
from onnxcompress.runtime.teacher import Teacher
from tests.distillation.models import perceptron
from tests.helpers import outputs
from tests.passes.support import model_of, normal, opset


def network() -> Model:
    """Scores [N, 4] of images [N, 2, 6, 6], and not those of their mirror images."""
    return model_of(
        opset(17)
        + """
        agraph (float[n,2,6,6] x) => (float[n,4] y) {
            c = Conv(x, w)
            f = Flatten(c)
            y = MatMul(f, v)
        }""",
        w=normal(3, 2, 3, 3, seed=1),
        v=normal(48, 4, seed=2),
    )


def test_both_sides_are_averaged() -> None:
    images = normal(5, 2, 6, 6, seed=3)
    first, second = (outputs(network(), {"x": x})["y"] for x in (images, images[..., ::-1].copy()))
    assert np.abs(first - second).max() > 1
    said = Teacher(network(), ["y"], both_sides=True).says({"x": images})
    assert list(said) == ["y"]
    np.testing.assert_allclose(said["y"], (first + second) / 2, rtol=1e-5, atol=1e-5)
    alone = Teacher(network(), ["y"]).says({"x": images})
    np.testing.assert_allclose(alone["y"], first, rtol=1e-5, atol=1e-5)


def test_what_has_no_mirror_image_is_refused() -> None:
    images = {"x": normal(5, 2, 6, 6)}
    with pytest.raises(DataError, match=r"mirror_teacher: 'c' \[5, 3, 4, 4\] is not a row of num"):
        Teacher(network(), ["y", "c"], both_sides=True).says(images)
    with pytest.raises(DataError, match=r"mirror_teacher: input 'x' \[5, 6\] is no batch of imag"):
        Teacher(perceptron(), ["y"], both_sides=True).says({"x": normal(5, 6)})


def test_fingerprints_differ_by_all_that_is_said() -> None:
    same, again, both, other = (
        Teacher(network(), ["y"]),
        Teacher(network(), ["y"]),
        Teacher(network(), ["y"], both_sides=True),
        Teacher(network(), ["c"]),
    )
    assert same.fingerprint() == again.fingerprint()
    assert len({each.fingerprint() for each in (same, both, other)}) == 3
