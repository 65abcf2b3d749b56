"""Text on paper, rendered with the DejaVu fonts that matplotlib carries."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
)
_LEADING = 1.35
_GLYPH_WIDTH = 0.6
"""Of a wide face, as a share of the font size."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a page may look; each end of a range is drawn with equal chance.

    Attributes:
        font_size: in pixels.
        margin: in pixels.
        ink: gray level of the text, 0 is black.
        paper: gray level around it.
        tilt: most degrees that the page lies askew, either way.
        noise: largest standard deviation of noise, in gray levels.
    """

    font_size: tuple[int, int]
    margin: tuple[int, int]
    ink: tuple[int, int]
    paper: tuple[int, int]
    tilt: float
    noise: float


def font_files() -> list[Path]:
    """Six faces, always the same."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [folder / f"{face}.ttf" for face in _FACES]


def page(text: str, size: tuple[int, int], style: Style, random: np.random.Generator) -> Image:
    """A gray page with as many lines of a text as fit.

    Args:
        text: paragraphs, a line each.
        size: width and height in pixels.
        style: how it may look, but for the noise.
        random: draws how it does.
    """
    sheet = _Sheet(size, style, random)
    width, height = size
    columns = int((width - 2 * sheet.margin) / (_GLYPH_WIDTH * sheet.font.size))
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, columns)]
    leading = round(_LEADING * sheet.font.size)
    tops = range(sheet.margin, height - sheet.margin - int(sheet.font.size), leading)
    for top, each in zip(tops, lines, strict=False):
        sheet.drawing.text((sheet.margin, top), each, font=sheet.font, fill=sheet.ink)
    return sheet.tilted(style, random)


def line(text: str, size: tuple[int, int], style: Style, random: np.random.Generator) -> Image:
    """A gray strip with one line in its middle, in smaller letters where it would not fit.

    Args:
        text: a line.
        size: width and height in pixels.
        style: how it may look, but for the noise.
        random: draws how it does.
    """
    sheet = _Sheet(size, style, random)
    room = size[0] - 2 * sheet.margin
    taken = sheet.font.getlength(text)
    if taken > room:
        sheet.font = sheet.font.font_variant(size=int(sheet.font.size * room / taken))
    middle = (sheet.margin, size[1] / 2)
    sheet.drawing.text(middle, text, font=sheet.font, fill=sheet.ink, anchor="lm")
    return sheet.tilted(style, random)


class _Sheet:
    """An empty page, with what was drawn from its style."""

    def __init__(self, size: tuple[int, int], style: Style, random: np.random.Generator) -> None:
        from PIL import Image, ImageDraw, ImageFont

        font_size, self.margin, self.ink, self.paper = (
            int(random.integers(*limits, endpoint=True))
            for limits in (style.font_size, style.margin, style.ink, style.paper)
        )
        face = font_files()[random.integers(len(_FACES))]
        self.font = ImageFont.truetype(str(face), font_size)
        self.image = Image.new("L", size, self.paper)
        self.drawing = ImageDraw.Draw(self.image)

    def tilted(self, style: Style, random: np.random.Generator) -> Image:
        from PIL import Image

        angle = float(random.uniform(-style.tilt, style.tilt))
        return self.image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=self.paper)


def noisy(pixels: np.ndarray, style: Style, random: np.random.Generator) -> np.ndarray:
    """uint8 pixels with some of the style's noise, still uint8."""
    noise = random.normal(0.0, random.uniform(0.0, style.noise), pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
