"""Pages look as their style says; none of these tests needs a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.subjects.orientation import cropped
from benchmarks.subjects.rendered_text import Style, font_files, line, noisy, page

STYLE = Style(font_size=(16, 16), margin=(40, 40), ink=(10, 10), paper=(200, 200), tilt=0, noise=0)
TEXT = "one two three four five six seven eight nine ten " * 40


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_faces_are_there() -> None:
    assert all(file.is_file() for file in font_files())


def test_a_page_has_its_margins_and_colours() -> None:
    pixels = np.asarray(page(TEXT, (300, 400), STYLE, random()))
    assert pixels.shape == (400, 300)
    assert pixels.max() == 200
    assert 10 <= pixels.min() < 60
    inside = pixels[40:361, 40:].copy()
    assert (inside < 200).mean() > 0.1
    outside = pixels.copy()
    outside[40:361, 40:261] = 200
    assert (outside < 200).mean() < 0.01  # a wide letter may cross the margin


def test_a_page_stays_the_same_for_a_seed() -> None:
    style = replace(STYLE, font_size=(10, 30), tilt=8.0)
    first, second = (page(TEXT, (300, 400), style, random()).tobytes() for _ in range(2))
    assert first == second


def test_noise_is_as_large_as_it_may_be() -> None:
    gray = np.full((200, 200), 128, np.uint8)
    assert (noisy(gray, STYLE, random()) == gray).all()
    spread = noisy(gray, replace(STYLE, noise=20.0), random()).std()
    assert 0 < spread <= 20.5


def test_the_middle_of_a_page_is_cropped() -> None:
    white = page("", (640, 880), replace(STYLE, paper=(255, 255)), random())
    white.paste(0, (220, 340, 420, 540))  # 200 pixels in the middle, 80 once scaled
    found = cropped(white)
    assert found.shape == (224, 224)
    dark = np.argwhere(found < 128)
    assert dark.min(axis=0).tolist() == [72, 72] and dark.max(axis=0).tolist() == [151, 151]


def test_a_line_that_is_too_long_shrinks() -> None:
    short, long = (line(text, (320, 48), STYLE, random()) for text in ("one two", "one two " * 12))
    heights, widths = [], []
    for image in (short, long):
        rows, columns = np.nonzero(np.asarray(image) < 150)
        heights.append(int(np.ptp(rows)))
        widths.append(int(np.ptp(columns)))
        assert abs(rows.mean() - 24) < 4
        assert columns.min() >= 38
    assert heights[1] < heights[0]
    assert widths[0] < 120 < widths[1] <= 242
