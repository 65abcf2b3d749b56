"""Handwritten digits painted on photographs, 32x32 pixels in colour.

Much as MNIST-M has them (Ganin et al. 2016), but in any colour, turned, scaled, faint and noisy:
some are so hard to read that damage to a model shows. Test pictures have digits and photographs of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects import mnist
from benchmarks.subjects.archive import Package

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE = 32

_PHOTOGRAPHS = Package(
    name="foolbox",
    version="3.3.4",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
_FILES = "foolbox/data/imagenet_*.jpg"
PACKAGES = (mnist.PACKAGE, _PHOTOGRAPHS)

_CROP = (32, 160)
"""Sides of the square of a photograph that is scaled to the picture."""
_TURN = 20.0
_SCALE = (0.8, 1.25)
_SHEAR = 0.2
_SHIFT = 3.0
_OPACITY = (0.35, 1.0)
_NOISE = 12.0


@dataclass(frozen=True, kw_only=True)
class Material:
    """What pictures are made of: digits, their classes and photographs."""

    digits: np.ndarray
    classes: np.ndarray
    photographs: list[Image]


def read(packages: Mapping[str, Path]) -> tuple[Material, Material]:
    """The material of training pictures and that of test pictures: every second of each kind."""
    from PIL import Image

    digits, classes = mnist.read(packages[mnist.PACKAGE.name])
    photographs = []
    for path in sorted(packages[_PHOTOGRAPHS.name].glob(_FILES)):
        with Image.open(path) as image:
            photographs.append(image.convert("RGB"))
    training, test = (
        Material(digits=digits[part::2], classes=classes[part::2], photographs=photographs[part::2])
        for part in (0, 1)
    )
    return training, test


def paint(
    material: Material, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures as uint8 (count, 32, 32, 3) and their classes; every digit as often as any other."""
    rows = random.permutation(np.arange(count) % len(material.digits))
    pictures = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    for picture, row in zip(pictures, rows, strict=True):
        photograph = material.photographs[random.integers(len(material.photographs))]
        picture[:] = _painted(material.digits[row], photograph, random)
    return pictures, material.classes[rows]


def _painted(digit: np.ndarray, photograph: Image, random: np.random.Generator) -> np.ndarray:
    ground = _crop(photograph, random)
    ink = _drawn(digit, random) * np.float32(random.uniform(*_OPACITY))
    colour = random.uniform(0, 255, 3).astype(np.float32)
    pixels = ground + (colour - ground) * ink[..., None]
    pixels += random.normal(0.0, random.uniform(0.0, _NOISE), pixels.shape)
    painted: np.ndarray = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return painted


def _crop(photograph: Image, random: np.random.Generator) -> np.ndarray:
    """A square of a photograph, scaled: float32 (32, 32, 3)."""
    from PIL import Image

    side = int(random.integers(*_CROP))
    left, top = (int(random.integers(length - side + 1)) for length in photograph.size)
    box = (left, top, left + side, top + side)
    scaled = photograph.resize((SIZE, SIZE), Image.Resampling.BOX, box=box)
    return np.asarray(scaled, dtype=np.float32)


def _drawn(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A digit turned, scaled, sheared and shifted: float32 (32, 32), where ink is 1."""
    from PIL import Image

    angle = np.deg2rad(random.uniform(-_TURN, _TURN))
    scale = random.uniform(*_SCALE)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # From a place in the picture to one in the digit, about the middle of both.
    matrix = np.array([[cos, sin + random.uniform(-_SHEAR, _SHEAR)], [-sin, cos]])
    middle = (SIZE - 1) / 2 + random.uniform(-_SHIFT, _SHIFT, 2)
    offset = (mnist.SIZE - 1) / 2 - matrix @ middle
    drawn = Image.fromarray(digit).transform(
        (SIZE, SIZE),
        Image.Transform.AFFINE,
        (*matrix[0], offset[0], *matrix[1], offset[1]),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(drawn, dtype=np.float32) / np.float32(255)
