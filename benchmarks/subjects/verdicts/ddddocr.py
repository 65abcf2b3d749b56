"""A YOLOX detector of characters, its head not decoded, and a recognizer of lines with CTC."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import captchas, photographs

if TYPE_CHECKING:
    from PIL.Image import Image

_MODEL = Package(
    name="ddddocr",
    version="1.6.1",
    sha256="c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
)
_DETECTOR = "ddddocr/common_det.onnx"
_RECOGNIZER = "ddddocr/common.onnx"
_SIDE = 416
_PICTURES = 32
_GRAY = 114
_HEIGHT = 64
_CAPTCHA = (160, 60)
_CAPTCHAS = 48
_SEED = 0


def _square(image: Image) -> np.ndarray:
    """float32 [3, 416, 416], BGR of 0 to 255, as ddddocr does it: gray below or at the right."""
    from PIL import Image

    scale = min(_SIDE / image.height, _SIDE / image.width)
    size = (int(image.width * scale), int(image.height * scale))
    padded = Image.new("RGB", (_SIDE, _SIDE), (_GRAY,) * 3)
    padded.paste(image.resize(size, Image.Resampling.BILINEAR))
    return np.asarray(padded, dtype=np.float32)[..., ::-1].transpose(2, 0, 1)


def _line(image: Image) -> np.ndarray:
    """float32 [1, 64, width], gray / 255, as ddddocr does it."""
    from PIL import Image

    width = int(image.width * (_HEIGHT / image.height))
    gray = image.resize((width, _HEIGHT), Image.Resampling.LANCZOS).convert("L")
    return np.asarray(gray, dtype=np.float32)[None] / np.float32(255)


def _build_detector(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _DETECTOR, folder / "model.onnx")
    things = photographs.things(sources.packages[photographs.THINGS.name])
    random = np.random.default_rng(_SEED)
    # Some have nothing to find.
    texts = captchas.texts(_PICTURES, (0, 7), random)
    pictures = [
        captchas.scattered(things[index % len(things)].resize((344, 384)), text, random)
        for index, text in enumerate(texts)
    ]
    return {"images": np.ascontiguousarray(np.stack([_square(each) for each in pictures]))}


def _build_recognizer(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _RECOGNIZER, folder / "model.onnx")
    random = np.random.default_rng(_SEED)
    texts = captchas.texts(_CAPTCHAS, (3, 6), random)
    return {"input1": np.stack([_line(captchas.captcha(text, _CAPTCHA, random)) for text in texts])}


DETECTOR = Unlabelled(
    name="ddddocr-detector",
    summary="YOLOX detector, boxes as offsets and logarithms, characters on photographs",
    licenses="model MIT; photographs ImageNet's, read, not shipped; fonts Bitstream Vera and "
    "public domain",
    inputs={"images": f"BGR of 0 to 255, NCHW float32, padded with gray to {_SIDE} pixels"},
    build=_build_detector,
    packages=(_MODEL, photographs.THINGS),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)

RECOGNIZER = Unlabelled(
    name="ddddocr-recognizer",
    summary="CTC over 8210 characters, steps before samples, output declared with another rank",
    licenses="model MIT; fonts Bitstream Vera and public domain",
    inputs={"input1": f"gray / 255, NCHW float32, {_HEIGHT} pixels high"},
    build=_build_recognizer,
    packages=(_MODEL,),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
