"""Pictures with a few characters askew, rendered with the DejaVu fonts that matplotlib carries."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.rendered_text import font_files

if TYPE_CHECKING:
    from PIL.Image import Image

# Without those that look like others.
_CHARACTERS = "".join(sorted(set(string.ascii_uppercase + string.digits) - set("0O1IL")))


def texts(count: int, lengths: tuple[int, int], random: np.random.Generator) -> list[str]:
    """Random characters, as many of them as one of the lengths from the first to the last."""
    sizes = random.integers(*lengths, endpoint=True, size=count)
    return ["".join(random.choice(list(_CHARACTERS), size)) for size in sizes]


def captcha(text: str, size: tuple[int, int], random: np.random.Generator) -> Image:
    """A text in one row on pale paper, with lines and dots across it; RGB.

    Args:
        text: some characters.
        size: width and height in pixels.
        random: draws everything else.
    """
    from PIL import Image, ImageDraw

    width, height = size
    image = Image.new("RGB", size, _color(random, 215, 255))
    room = (width - height // 4) // len(text)
    for index, character in enumerate(text):
        glyph = _glyph(character, int(height * random.uniform(0.5, 0.68)), 18.0, random)
        left = height // 8 + index * room + int(random.integers(-2, 3))
        top = (height - glyph.height) // 2 + int(random.integers(-4, 5))
        image.paste(_color(random, 0, 130), (left, top), glyph)
    drawing = ImageDraw.Draw(image)
    for _ in range(int(random.integers(0, 4))):
        ends = [(int(random.integers(width)), int(random.integers(height))) for _ in range(2)]
        drawing.line(ends, fill=_color(random, 60, 200))
    for _ in range(int(random.integers(10, 60))):
        drawing.point(
            (int(random.integers(width)), int(random.integers(height))), _color(random, 0, 200)
        )
    return image


def scattered(background: Image, text: str, random: np.random.Generator) -> Image:
    """A picture with characters here and there, none upon another, to be clicked on.

    Args:
        background: RGB; a copy is drawn on.
        text: some characters.
        random: draws where they are and how they look.
    """
    image = background.copy()
    taken: list[tuple[int, int, int, int]] = []
    for character in text:
        glyph = _glyph(character, int(random.integers(34, 64)), 40.0, random)
        for _ in range(20):
            left = int(random.integers(image.width - glyph.width))
            top = int(random.integers(image.height - glyph.height))
            box = (left, top, left + glyph.width, top + glyph.height)
            if not any(_touch(box, other) for other in taken):
                taken.append(box)
                light = random.random() < 0.5
                image.paste(_color(random, *((190, 255) if light else (0, 70))), box[:2], glyph)
                break
    return image


def _glyph(
    character: str, font_size: int, most_degrees: float, random: np.random.Generator
) -> Image:
    """One character as a mask, cut to its ink."""
    from PIL import Image, ImageDraw, ImageFont

    faces = font_files()
    font = ImageFont.truetype(str(faces[random.integers(len(faces))]), font_size)
    mask = Image.new("L", (2 * font_size, 2 * font_size))
    ImageDraw.Draw(mask).text((font_size, font_size), character, 255, font=font, anchor="mm")
    turned = mask.rotate(
        float(random.uniform(-most_degrees, most_degrees)), Image.Resampling.BICUBIC
    )
    return turned.crop(turned.getbbox())


def _color(random: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in random.integers(low, high, 3))
    return red, green, blue


def _touch(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )
