"""Pages and tables, rendered with the DejaVu fonts that matplotlib carries."""

from __future__ import annotations

import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.rendered_text import font_files

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

_LEADING = 1.35
_GLYPH_WIDTH = 0.53


def table(
    words: list[str], ruled: bool, size: tuple[int, int], random: np.random.Generator
) -> Image:
    """A table of short words, RGB, with lines around its cells or with none between them.

    Args:
        words: what stands in the cells, again and again.
        ruled: whether there are lines around all cells.
        size: width and height in pixels.
        random: draws rows, columns and letters.
    """
    from PIL import Image, ImageDraw

    width, height = size
    image = Image.new("RGB", size, "white")
    drawing = ImageDraw.Draw(image)
    rows, columns = int(random.integers(4, 12)), int(random.integers(2, 7))
    margin = int(random.integers(4, 24))
    across = np.linspace(margin, width - margin, columns + 1).astype(int).tolist()
    down = np.linspace(margin, height - margin, rows + 1).astype(int).tolist()
    font = _font(int(0.45 * (down[1] - down[0])), random)
    drawn = iter(random.permutation(len(words)).tolist() * 3)
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            word = words[next(drawn)]
            while word and font.getlength(word) > right - left - 6:
                word = word[:-1]
            drawing.text((left + 4, (top + bottom) // 2), word, "black", font=font, anchor="lm")
            if ruled:
                drawing.rectangle((left, top, right, bottom), outline="black")
    if not ruled and random.random() < 0.5:
        for y in (down[0], down[1], down[-1]):
            drawing.line((across[0], y, across[-1], y), fill="black", width=2)
    return image


def article(
    text: str, picture: Image, words: list[str], size: tuple[int, int], random: np.random.Generator
) -> Image:
    """A page in one or two columns: a title, paragraphs, perhaps a photograph and a table; RGB.

    Args:
        text: its first line is the title.
        picture: for a figure.
        words: for a table.
        size: width and height in pixels.
        random: draws how they are arranged.
    """
    from PIL import Image, ImageDraw

    title, _, body = text.partition("\n")
    width, height = size
    image = Image.new("RGB", size, "white")
    drawing = ImageDraw.Draw(image)
    margin = int(random.integers(width // 16, width // 9))
    font = _font(int(random.integers(11, 17)), random)
    top = margin
    if random.random() < 0.8:
        heading = font.font_variant(size=int(font.size * random.uniform(1.6, 2.2)))
        top = _write(drawing, title, (margin, margin), width - 2 * margin, height, heading) + 20
    columns = int(random.integers(1, 3))
    gap = 24
    across = (width - 2 * margin - gap * (columns - 1)) // columns
    paragraphs = [line for line in body.splitlines() if line.strip()]
    for column in range(columns):
        left, y = margin + column * (across + gap), top
        inserts = [each for each in ("figure", "table", "") if random.random() < 0.6]
        while paragraphs and y < height - 2 * margin:
            y = _write(drawing, paragraphs.pop(0), (left, y), across, height - margin, font) + 14
            if inserts and y < height - margin - across:
                insert = inserts.pop(0)
                box = (across, int(across * random.uniform(0.45, 0.7)))
                if insert == "figure":
                    image.paste(picture.resize(box), (left, y))
                elif insert == "table":
                    image.paste(table(words, random.random() < 0.5, box, random), (left, y))
                y += (box[1] + 18) if insert else 0
    return image


def _write(
    drawing: ImageDraw, text: str, at: tuple[int, int], width: int, end: int, font: FreeTypeFont
) -> int:
    """Write a paragraph between two heights; return where the next can begin."""
    left, y = at
    leading = round(_LEADING * font.size)
    for line in textwrap.wrap(text, max(8, int(width / (_GLYPH_WIDTH * font.size)))):
        if y + leading > end:
            break
        drawing.text((left, y), line, "black", font=font)
        y += leading
    return y


def _font(size: int, random: np.random.Generator) -> FreeTypeFont:
    from PIL import ImageFont

    faces = font_files()
    return ImageFont.truetype(str(faces[random.integers(len(faces))]), max(6, size))
