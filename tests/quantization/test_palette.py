import itertools

import numpy as np
import pytest

from onnxcompress.quantization.palette import (
    codebook_groups,
    fit_codebook,
    index_bits,
    nearest,
    palettize,
)
from tests.passes.support import Array, normal


def _error(values: Array, book: Array) -> float:
    gaps = np.abs(values.reshape(-1, 1).astype(np.float64) - book)
    return float(np.square(gaps.min(1)).sum())


def _best(values: Array, entries: int) -> float:
    """The least error there is: every way to cut the sorted values into runs."""
    ordered = np.sort(values.astype(np.float64))
    cuts = itertools.combinations(range(1, ordered.size), entries - 1)
    runs = (np.split(ordered, cut) for cut in cuts)
    return min(sum(float(np.square(run - run.mean()).sum()) for run in each) for each in runs)


@pytest.mark.parametrize("seed", range(8))
def test_small_cases_come_close_to_the_optimum(seed: int) -> None:
    values = normal(18, seed=seed)
    assert _error(values, fit_codebook(values, 4, 0)) <= 1.2 * _best(values, 4) + 1e-9


def test_clusters_apart_are_found() -> None:
    centers = np.array([-9, -1, 0.5, 40])
    counts = (5, 900, 90, 2)
    parts = [c + 0.01 * normal(n) for c, n in zip(centers, counts, strict=True)]
    values = np.concatenate(parts)
    book = fit_codebook(values, 4, 0)
    np.testing.assert_allclose(book, centers, atol=0.02)


def test_the_codebook_is_a_fixed_point() -> None:
    values = normal(5000)
    book = fit_codebook(values, 16, 0)
    codes = nearest(values, book)
    assert (np.diff(book) > 0).all()
    means = [values[codes == index].astype(np.float64).mean() for index in range(16)]
    np.testing.assert_allclose(means, book, atol=1e-3)
    np.testing.assert_array_equal(codes, np.abs(values[:, None] - book).argmin(1))
    # Lloyd-Max for a normal distribution at 16 levels: 20.22 dB.
    assert 10 * np.log10(np.square(values).sum() / _error(values, book)) > 20.1


def test_few_distinct_values_are_kept_exactly() -> None:
    values = np.array([3, -1, 3, 0, 3, -1], np.float32)
    book = fit_codebook(values, 8, 0)
    assert book.tolist() == [-1, 0, 3, 3, 3, 3, 3, 3]
    np.testing.assert_array_equal(book[nearest(values, book)], values)


def test_the_seed_decides() -> None:
    values = normal(3000)
    np.testing.assert_array_equal(fit_codebook(values, 16, 3), fit_codebook(values, 16, 3))


@pytest.mark.parametrize(("entries", "bits"), [(4, 2), (5, 4), (16, 4), (17, 8), (256, 8)])
def test_bits(entries: int, bits: int) -> None:
    assert index_bits(entries) == bits


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_channel_has_its_own_codebook(axis: int) -> None:
    w = normal(6, 5, 40)
    coded = palettize(w, codebook_groups(w.shape, axis, per_channel=True), 4, 0)
    assert coded.terms[0].codebook.shape == (w.shape[axis], 4)
    for index in range(w.shape[axis]):
        line = w.take(index, axis)
        book = fit_codebook(line, 4, 0)
        got = coded.values().take(index, axis)
        np.testing.assert_array_equal(got, book[nearest(line, book)])
