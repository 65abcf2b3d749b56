from pathlib import Path

import numpy as np
import pytest

from onnxcompress.errors import DataError
from onnxcompress.ir.edit import Editor
from onnxcompress.masking.given import GivenImportances
from onnxcompress.masking.weights import PrunableWeight, prunable_weights
from onnxcompress.passes import PruneWeights
from tests.passes.support import Array, model_of, normal


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder one works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _weight() -> PrunableWeight:
    model = model_of("g (float[2, 4] x) => (float[2, 3] y) { y = MatMul(x, w) }", w=normal(4, 3))
    ((weight, _),) = prunable_weights(model, Editor(model), PruneWeights().at)
    return weight


@pytest.mark.usefixtures("folder")
def test_numbers_come_in_the_order_of_the_weight() -> None:
    table = np.abs(normal(4, 3))
    np.savez("given.npz", w=table, other=np.float32(2))
    given = GivenImportances("given.npz")
    assert given.members.keys() == {"w", "other"}
    found = given.of(_weight())
    assert found is not None
    np.testing.assert_array_equal(found, table.T[None])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("single", [np.float64(3), np.array([3])])
def test_one_number_for_all(single: Array) -> None:
    np.savez("given.npz", w=single)
    found = GivenImportances("given.npz").of(_weight())
    assert found is not None
    assert found.shape == () and found == 3


@pytest.mark.usefixtures("folder")
def test_a_weight_without_numbers() -> None:
    np.savez("given.npz", v=np.ones(3))
    assert GivenImportances("given.npz").of(_weight()) is None


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("table", "told"),
    [
        (np.ones((3, 4)), r"given.npz: 'w' has shape \[3, 4\], but the weight has \[4, 3\]"),
        (np.full((4, 3), "x"), "holds <U1, not numbers"),
        (-np.ones((4, 3)), "holds numbers below zero"),
        (np.full((4, 3), np.nan), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(table: Array, told: str) -> None:
    np.savez("given.npz", w=table)
    with pytest.raises(DataError, match=told):
        GivenImportances("given.npz").of(_weight())


@pytest.mark.usefixtures("folder")
def test_pickles_are_never_loaded() -> None:
    np.savez("given.npz", w=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="pickled"):
        GivenImportances("given.npz")


def test_a_path_must_not_leave_the_folder(folder: Path) -> None:
    outside = folder.parent / "outside.npz"
    np.savez(outside, w=np.ones(3))
    (folder / "link.npz").symlink_to(outside)
    for path in (outside, "../outside.npz", "link.npz"):
        with pytest.raises(DataError, match="lies outside"):
            GivenImportances(path)
    with pytest.raises(DataError, match="is no path of a file"):
        GivenImportances("\0")
    with pytest.raises(DataError, match="there is no such file"):
        GivenImportances("missing.npz")
