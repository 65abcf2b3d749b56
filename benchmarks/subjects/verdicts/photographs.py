"""Photographs that packages carry, and many views of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.archive import Package

if TYPE_CHECKING:
    from PIL.Image import Image

PEOPLE = Package(
    name="ultralytics",
    version="8.4.190",
    sha256="bd309728efa168af64d39040136828edd2dbcb4aeceb4510bdff4f3ca0ea01b8",
)
"""Two photographs of people. AGPL: they are read, nothing of it is kept or run."""

THINGS = Package(
    name="foolbox",
    version="3.3.4",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
"""Twenty pictures of ImageNet."""

_GAIN = (0.6, 1.3)


def people(package: Path) -> list[Image]:
    """Photographs with faces: a street, two men, and the admiral that matplotlib carries."""
    import matplotlib
    from PIL import Image

    assets = package / "ultralytics" / "assets"
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    files = [assets / "bus.jpg", assets / "zidane.jpg", portrait]
    return [Image.open(file).convert("RGB") for file in files]


def things(package: Path) -> list[Image]:
    """Photographs of animals, tools and rooms, in the order of their names."""
    from PIL import Image

    files = sorted((package / "foolbox" / "data").glob("imagenet_*.jpg"))
    return [Image.open(file).convert("RGB") for file in files]


def view(image: Image, share: tuple[float, float], random: np.random.Generator) -> Image:
    """A part of a photograph, lighter or darker, every other time mirrored.

    Args:
        image: RGB.
        share: least and most of its width and of its height that the part may take.
        random: draws the part.
    """
    from PIL import ImageEnhance, ImageOps

    width, height = (round(side * random.uniform(*share)) for side in image.size)
    left = int(random.integers(image.width - width, endpoint=True))
    top = int(random.integers(image.height - height, endpoint=True))
    part = image.crop((left, top, left + width, top + height))
    lit = ImageEnhance.Brightness(part).enhance(float(random.uniform(*_GAIN)))
    return ImageOps.mirror(lit) if random.random() < 0.5 else lit
