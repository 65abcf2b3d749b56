"""A CRNN that reads captchas: unrolled recurrence, CTC over 36 characters, steps before samples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.subjects.archive import Package
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import captchas

if TYPE_CHECKING:
    from PIL.Image import Image

_MODEL = Package(
    name="captcha-whisperer",
    version="0.1.0",
    sha256="97d504dc35f5dd565fefdf244e2b6dceca6dd12a9cecad70b48dfeb66d197c8c",
)
_FILE = "captcha_whisperer/models/captcha_crnn.onnx"
_SIZE = (160, 60)
_SAMPLES = 60
_SEED = 0


def _prepared(image: Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32)[..., ::-1].transpose(2, 0, 1)


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    random = np.random.default_rng(_SEED)
    texts = captchas.texts(_SAMPLES, (4, 5), random)
    images = [_prepared(captchas.captcha(text, _SIZE, random)) for text in texts]
    return {"image": np.ascontiguousarray(np.stack(images))}


SUBJECT = Unlabelled(
    name="captcha-crnn",
    summary="CRNN with CTC over 36 characters, steps before samples",
    licenses="model MIT; fonts Bitstream Vera and public domain",
    inputs={"image": "BGR of 0 to 255, NCHW float32, 160x60 pixels"},
    build=_build,
    packages=(_MODEL,),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
