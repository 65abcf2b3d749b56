import numpy as np

from onnxcompress.quantization.groups import Grouping, Groups
from onnxcompress.quantization.ternary import ternarize
from tests.passes.support import Array, normal


def reference(w: Array, threshold: float) -> Array:
    """Ternary Weight Networks, one row a group, in float64."""
    w = w.astype(np.float64)
    large = np.abs(w) > threshold * np.abs(w).mean(1, keepdims=True)
    factor = (np.abs(w) * large).sum(1, keepdims=True) / np.maximum(large.sum(1, keepdims=True), 1)
    result: Array = np.sign(w) * large * factor
    return result


def test_small_weights_become_zero_and_the_rest_one_magnitude() -> None:
    w = normal(6, 50)
    groups = Groups.of(w.shape, 0, Grouping.PER_CHANNEL, 1)
    for threshold in (0.0, 0.7, 1.5):
        got = ternarize(w, groups, threshold).values()
        np.testing.assert_allclose(got, reference(w, threshold), rtol=1e-6)
    assert not ternarize(w, groups, 100.0).values().any()
    assert not ternarize(np.zeros_like(w), groups, 0.7).values().any()


def test_the_papers_threshold_is_near_the_best_one() -> None:
    w = normal(1, 20000)
    groups = Groups.of(w.shape, 0, Grouping.PER_TENSOR, 1)
    errors = {t: np.square(w - ternarize(w, groups, t).values()).sum() for t in (0.2, 0.7, 1.4)}
    assert errors[0.7] < min(errors[0.2], errors[1.4])
