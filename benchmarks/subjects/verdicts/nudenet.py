"""A YOLOv8 detector of faces and parts of bodies: boxes and class scores, not yet suppressed."""

from __future__ import annotations

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
    name="nudenet",
    version="3.4.2",
    sha256="5937dbd84e5d8e5de038f08ffea5a1bb50a08475776bf2b4795914ce0eaf0331",
)
_FILE = "nudenet/320n.onnx"
_SIDE = 320
_SAMPLES = 48
_SHARE = (0.4, 1.0)
_SEED = 0


def _prepared(image: Image) -> np.ndarray:
    """float32 [3, 320, 320], as nudenet does it: a square with black below or at the right."""
    from PIL import Image

    square = Image.new("RGB", (max(image.size),) * 2)
    square.paste(image)
    pixels = np.asarray(square.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
    return pixels.transpose(2, 0, 1) / np.float32(255)


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    people = photographs.people(sources.packages[photographs.PEOPLE.name])
    random = np.random.default_rng(_SEED)
    views = [
        photographs.view(people[index % len(people)], _SHARE, random) for index in range(_SAMPLES)
    ]
    return {"images": np.stack([_prepared(each) for each in views])}


SUBJECT = Unlabelled(
    name="nudenet",
    summary="YOLOv8 detector, decoded boxes and scores before suppression, people",
    licenses="model MIT by its metadata and AGPL-3.0 by its licence file, photographs AGPL-3.0 "
    "and public domain: all read, none shipped",
    inputs={"images": f"RGB / 255, NCHW float32, padded to a square of {_SIDE} pixels"},
    build=_build,
    packages=(_MODEL, photographs.PEOPLE),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
