import numpy as np
import pytest

from onnxcompress.pruning import geometric_median
from onnxcompress.pruning.geometric_median import geometric_median_importance
from tests.passes.support import normal


@pytest.mark.parametrize("at_once", [3, 256])
def test_the_sum_of_distances_to_all_others(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometric_median, "_AT_ONCE", at_once)
    rows = normal(7, 40) + 100
    exact = rows.astype(np.float64)
    expected = np.linalg.norm(exact[:, None] - exact[None], axis=2).sum(axis=1)
    np.testing.assert_allclose(geometric_median_importance(rows), expected, rtol=1e-6)


def test_the_unit_amid_the_others_goes_first() -> None:
    rows = np.float32([[0, 1], [1, 0], [0, -1], [-1, 0], [0.1, 0.1]])
    assert geometric_median_importance(rows).argmin() == 4
