"""Splits are exact where they can be, and keep what belongs together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcompress.data.splitting import Shares, joined_groups, split_groups
from onnxcompress.errors import DataError


def _split(
    groups: np.ndarray, counts: tuple[int, ...], labels: np.ndarray | None = None, seed: int = 0
) -> list[np.ndarray]:
    return split_groups(groups, counts, labels, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("50/20/30", Shares(0.5, 0.2, 0.3)),
        ("0.6/0.2/0.2", Shares(0.6, 0.2, 0.2)),
        ("40/60", Shares(0, 0.4, 0.6)),
        ("33.3/33.3/33.4", Shares(0.333, 0.333, 0.334)),
    ],
)
def test_shares(text: str, shares: Shares) -> None:
    parsed = Shares.parse(text)
    for part in ("fit", "choose", "judge"):
        assert getattr(parsed, part) == pytest.approx(getattr(shares, part))
    assert Shares.parse(str(parsed)).fit == pytest.approx(parsed.fit)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("50/20/20", "add up to 100, or to 1; 50/20/20 do not"),
        ("0.5/0.2/0.2", "add up to 100"),
        ("50/0/50", "above 0"),
        ("-10/50/60", "above 0"),
        ("0/40/60", "leaves nothing to fit"),
        ("nan/1/1", "add up"),
        ("100", "is no split; write 50/20/30"),
        ("half/half", "is no split"),
        ("25/25/25/25", "is no split"),
    ],
)
def test_what_is_no_split(text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        Shares.parse(text)


@pytest.mark.parametrize(
    ("total", "counts"),
    [
        (2000, (1000, 400, 600)),
        (100, (50, 20, 30)),
        (12, (6, 2, 4)),
        (13, (6, 3, 4)),
        (3, (1, 1, 1)),
    ],
)
def test_numbers(total: int, counts: tuple[int, int, int]) -> None:
    assert Shares().counts(total) == counts


def test_numbers_are_bounded_and_never_zero() -> None:
    assert Shares().counts(100_000, 2000) == (50_000, 2000, 48_000)
    assert Shares(0, 0.4, 0.6).counts(12) == (0, 5, 7)
    assert Shares(0.98, 0.01, 0.01).counts(12) == (10, 1, 1)


def test_single_samples_are_split_exactly() -> None:
    labels = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    parts = _split(np.arange(100), (50, 20, 30), labels)
    mixes = [np.unique(labels[part], return_counts=True)[1].tolist() for part in parts]
    assert mixes == [[30, 15, 5], [12, 6, 2], [18, 9, 3]]
    again = _split(np.arange(100), (50, 20, 30), labels)
    assert all((one == two).all() for one, two in zip(parts, again, strict=True))
    other = _split(np.arange(100), (50, 20, 30), labels, seed=1)
    assert any((one != two).any() for one, two in zip(parts, other, strict=True))


def test_groups_that_hold_one_label_each_are_still_split() -> None:
    groups = np.repeat(np.arange(10), 10)
    parts = _split(groups, (50, 20, 30), groups)
    assert [len(part) for part in parts] == [50, 20, 30]


def test_small_groups_make_up_for_large_ones() -> None:
    groups = np.repeat(np.arange(14), [30, 30, 15, 15, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    for seed in range(20):
        assert [len(part) for part in _split(groups, (50, 20, 30), seed=seed)] == [50, 20, 30]


def test_no_part_is_empty() -> None:
    groups = np.repeat(np.arange(3), [98, 1, 1])
    for seed in range(20):
        assert all(len(part) for part in _split(groups, (50, 20, 30), seed=seed))
    with pytest.raises(ValueError, match="2 groups cannot be in 3 parts"):
        _split(np.array([0, 0, 1]), (1, 1, 1))


def test_a_part_that_is_to_be_empty_is() -> None:
    parts = _split(np.arange(10), (0, 4, 6))
    assert [len(part) for part in parts] == [0, 4, 6]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=3, max_size=40),
    labels=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_groups_stay_together_and_sizes_are_near(sizes: list[int], labels: int, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    rng.shuffle(groups)
    kinds = rng.integers(0, labels, len(groups))
    counts = Shares().counts(len(groups))
    parts = _split(groups, counts, kinds, seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    owners = [set(groups[part].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(sizes)
    assert all(owners)
    for part, count in list(zip(parts, counts, strict=True))[1:]:
        assert abs(len(part) - count) <= max(sizes)


def test_agreeing_in_any_key_joins() -> None:
    speakers = ["a", "a", "b", "c", "c", "d"]
    contents = [1, 2, 2, 3, 4, 5]
    assert joined_groups(speakers, contents).tolist() == [0, 0, 0, 1, 1, 2]
    chain = [[0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 2, 2]]
    assert joined_groups(*chain).tolist() == [0] * 6
    assert joined_groups(["x", "y", "x"]).tolist() == [0, 1, 0]
