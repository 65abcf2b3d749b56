"""Samples varied at random: what may become of them, and what may not."""

import numpy as np
import pytest

from onnxcompress.distillation.augmentation import (
    Augmentation,
    are_pictures,
    augment,
    fit,
    mirrored,
    why_unfit,
)
from tests.passes.support import normal

SIZE, MARGIN = 16, 2


def varied(kind: Augmentation, *arrays: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Inputs `0`, `1`, ... after they were varied."""
    feeds = {str(number): array for number, array in enumerate(arrays)}
    return list(augment(kind, feeds, np.random.default_rng(seed)).values())


def windows(image: np.ndarray) -> list[tuple[bool, int, int, np.ndarray]]:
    """All that an image [C, H, W] may become: mirrored or not, from where, and the image."""
    margin = (MARGIN, MARGIN)
    padded = np.pad(image, ((0, 0), margin, margin), mode="edge")
    starts = range(2 * MARGIN + 1)
    moved = [
        (top, left, padded[:, top : top + SIZE, left : left + SIZE])
        for top in starts
        for left in starts
    ]
    return [
        (side, top, left, each[:, :, ::-1] if side else each)
        for side in (False, True)
        for top, left, each in moved
    ]


@pytest.mark.parametrize(
    ("kind", "sides"), [(Augmentation.IMAGES, {False, True}), (Augmentation.SHIFTS, {False})]
)
def test_images_are_mirrored_and_moved_by_an_eighth_at_most(kind, sides) -> None:
    images = normal(60, 3, SIZE, SIZE)
    (found,) = varied(kind, images)
    assert found.dtype == images.dtype
    seen = set()
    for image, result in zip(images, found, strict=True):
        fits = [
            (side, top, left)
            for side, top, left, each in windows(image)
            if np.array_equal(each, result)
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert {side for side, _, _ in seen} == sides
    assert {top for _, top, _ in seen} == {left for _, _, left in seen} == set(range(5))


def test_all_inputs_of_a_sample_are_varied_alike() -> None:
    images, samples = normal(8, 1, SIZE, SIZE), normal(8, 5)
    for kind in (Augmentation.IMAGES, Augmentation.BOTH):
        first, second = varied(kind, images, 2 * images)
        np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
    first, second = varied(Augmentation.MIXUP, samples, -samples)
    np.testing.assert_array_equal(second, -first)


def test_mixed_samples_lie_between_two_samples() -> None:
    samples = np.eye(12, dtype=np.float32)
    (found,) = varied(Augmentation.MIXUP, samples, seed=3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert (found >= 0).all()
    assert ((found > 0).sum(axis=1) <= 2).all()
    # Each is mixed once with its own share, and lent once to another.
    assert ((found > 0).sum(axis=0) <= 2).all()
    assert (np.diag(found) > 0).all()
    assert ((found > 0).sum(axis=1) == 2).mean() > 0.5


def test_the_same_seed_varies_alike_and_none_not_at_all() -> None:
    images = normal(4, 3, SIZE, SIZE)
    for kind in set(Augmentation) - {Augmentation.AUTO}:
        (first,), (again,), (other,) = (varied(kind, images, seed=seed) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert np.array_equal(first, other) == (kind is Augmentation.NONE)
        assert np.array_equal(first, images) == (kind is Augmentation.NONE)


def test_pictures_are_mirrored_where_the_teacher_takes_that_for_the_same() -> None:
    said, noise = normal(30, 4), normal(30, 4, seed=1)
    assert fit({"y": said}, {"y": said + 0.5 * noise}) is Augmentation.IMAGES
    assert fit({"y": said}, {"y": said + noise}) is Augmentation.SHIFTS
    assert fit({"y": said}, {"y": said[::-1]}) is Augmentation.SHIFTS
    maps = normal(30, 2, 4, 4)  # which say where: those of mirror images are mirrored too
    assert fit({"y": said, "z": maps}, {"y": said, "z": maps}) is Augmentation.SHIFTS


@pytest.mark.parametrize(
    ("shape", "pictures"),
    [((2, 3, 8, 8), True), ((2, 1, 9, 8), True), ((2, 4, 8, 8), False), ((2, 1, 7, 8), False)],
)
def test_pictures_are_grey_or_coloured_and_not_tiny(shape, pictures) -> None:
    assert are_pictures({"x": np.zeros(shape, np.float32)}) == pictures
    assert not are_pictures({"x": np.zeros(shape, np.uint8)})
    assert not are_pictures({"x": np.zeros(shape, np.float32), "n": np.zeros(2, np.float32)})


def test_mirroring_turns_width_alone() -> None:
    images = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    turned = mirrored({"x": images})["x"]
    assert turned[0, 1, 2].tolist() == [23, 22, 21, 20]
    assert np.array_equal(mirrored({"x": turned})["x"], images)


@pytest.mark.parametrize(
    ("kind", "array", "told"),
    [
        (Augmentation.NONE, np.zeros((2, 5), np.int64), None),
        (Augmentation.IMAGES, np.zeros((2, 3, 8, 8), np.float32), None),
        (Augmentation.MIXUP, np.zeros((2, 5), np.float32), None),
        (Augmentation.MIXUP, np.zeros((2, 5), np.int64), "input 'x' is int64: mixing is for"),
        (Augmentation.IMAGES, np.zeros((2, 5), np.float32), "input 'x' [2, 5] is no batch of"),
        (Augmentation.BOTH, np.zeros((2, 3, 8, 8), np.uint8), "input 'x' is uint8: mixing is for"),
        (Augmentation.BOTH, np.zeros((2, 5), np.float32), "input 'x' [2, 5] is no batch of"),
    ],
)
def test_inputs_that_cannot_be_varied_are_told(kind, array, told) -> None:
    unfit = why_unfit(kind, {"x": array})
    if told is None:
        assert unfit is None
    else:
        assert unfit is not None
        assert told in unfit
