from pathlib import Path

import numpy as np
import pytest

from onnxcompress.errors import DataError, RecipeError
from onnxcompress.pruning.vocabulary import RowUses, read_ids, shrink, unseen_share

TABLE = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)


def test_rows_that_go_are_read_as_the_largest_cosine() -> None:
    kept = np.random.default_rng(1).random(3000) < 0.1
    small = shrink(TABLE, kept)
    np.testing.assert_array_equal(small.rows, np.flatnonzero(kept))
    wide = TABLE.astype(np.float64) / np.linalg.norm(TABLE.astype(np.float64), axis=1)[:, None]
    cosines = wide @ wide[kept].T
    chosen = cosines[np.arange(3000), small.places]
    np.testing.assert_allclose(chosen, cosines.max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(small.rows[small.places[kept]], np.flatnonzero(kept))


def test_rows_of_zeros_have_no_direction_and_are_no_error() -> None:
    table = np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.float32)
    small = shrink(table, np.array([True, True, True, False]))
    assert small.places[:3].tolist() == [0, 1, 2]
    assert small.places[3] < 3


def test_one_row_for_all_that_go() -> None:
    small = shrink(TABLE, np.arange(3000) % 3 == 0, unknown=9)
    assert set(small.places[1::3]) == {3}
    assert small.nbytes(64) == 1000 * 64 + 3000 * 2
    nothing = shrink(TABLE[:3], np.ones(3, bool))
    np.testing.assert_array_equal(nothing.places, [0, 1, 2])


@pytest.mark.parametrize(("rows", "dtype"), [(65536, np.uint16), (65537, np.int32)])
def test_places_are_as_narrow_as_they_can_be(rows: int, dtype: type) -> None:
    small = shrink(np.ones((rows, 1), np.float32), np.ones(rows, bool))
    assert small.places.dtype == dtype
    assert small.places[-1] == rows - 1


def test_the_share_of_new_ids_that_lost_their_row() -> None:
    """Ids as rare as words are, half of them read, the other half to be foreseen."""
    random = np.random.default_rng(0)
    ids = (random.zipf(1.3, 60_000) - 1) % 50_000
    for least_count in (1, 2, 3):
        uses = RowUses(50_000)
        uses.add(ids[:30_000])
        kept = uses.counts >= least_count
        lost = float((~kept[ids[30_000:]]).mean())
        assert unseen_share(uses.counts, kept, least_count) == pytest.approx(lost, rel=0.1)


def test_rows_that_are_kept_anyhow_are_not_lost() -> None:
    counts = np.array([10, 1, 1, 0])
    assert unseen_share(counts, counts >= 2, 2) == pytest.approx(2 / 12)
    assert unseen_share(counts, np.array([True, True, False, False]), 2) == pytest.approx(1 / 12)


def test_uses_of_rows_and_positions() -> None:
    uses = RowUses(5)
    uses.add(np.array([[0, 4, -1], [2, 2, 2]], np.int32))
    assert uses.counts.tolist() == [1, 0, 3, 0, 2]
    assert not uses.are_positions
    uses.add(np.tile(np.arange(5, dtype=np.uint8), (3, 1)))
    assert uses.are_positions
    for id_ in (5, -6):
        with pytest.raises(DataError, match=f"id {id_} of the data is none of the 5 rows"):
            uses.add(np.array([0, id_]))


def test_ids_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ids"
    path.write_text("7\n\n 12 \n")
    assert read_ids(path) == [7, 12]
    path.write_bytes(b"\xff\xfe1")
    with pytest.raises(RecipeError, match="cannot be read as a list of ids"):
        read_ids(path)
